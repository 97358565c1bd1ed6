-- Tell what the gate knows of several coupons of one lane, as one consistent picture. Changes nothing.
--
-- Invariant: none to protect; the values belong to one instant.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
--   2… sc:{n}:coupon:<id>, sc:{n}:coupon:<id>:winners  hash, hash
-- ARGV
--   1… coupon id  integer, in the order of the pairs of KEYS
-- RETURNS
--   {last number, {coupon id, version, status, total, issued, starts at, ends at, winners}, …}
--   texts, '' where there is no such field; winners counts their hash
-- COST O(number of coupons)

if #KEYS < 3 or #KEYS ~= 2 * #ARGV + 1 then
  return redis.error_reply('ERR picture_coupons takes the lane, and two keys and one argument for each coupon')
end

local pictures = {redis.call('HGET', KEYS[1], 'last_number') or ''}
for i, coupon_id in ipairs(ARGV) do
  local fields = redis.call('HMGET', KEYS[2 * i],
    'version', 'status', 'total', 'issued', 'starts_at_ms', 'ends_at_ms')
  local picture = {coupon_id}
  for place = 1, 6 do
    picture[place + 1] = fields[place] or ''
  end
  picture[8] = string.format('%.0f', redis.call('HLEN', KEYS[2 * i + 1]))
  pictures[i + 1] = picture
end
return pictures
