-- Tell what the gate knows of several coupons of one lane, as one consistent picture. Changes nothing.
--
-- Invariant: none to protect; the values belong to one instant.
--
-- KEYS
--   1… sc:{n}:coupon:<id>, sc:{n}:coupon:<id>:winners  hash, hash
-- ARGV
--   1… coupon id  integer, in the order of the pairs of KEYS
-- RETURNS
--   {{coupon id, version, status, total, issued, starts at, ends at, winners}, …}
--   texts, '' where the coupon has no such field; winners counts their hash
-- COST O(number of coupons)

if #KEYS < 2 or #KEYS ~= 2 * #ARGV then
  return redis.error_reply('ERR picture_coupons takes two keys and one argument for each coupon')
end

local pictures = {}
for i, coupon_id in ipairs(ARGV) do
  local fields = redis.call('HMGET', KEYS[2 * i - 1],
    'version', 'status', 'total', 'issued', 'starts_at_ms', 'ends_at_ms')
  local picture = {coupon_id}
  for place = 1, 6 do
    picture[place + 1] = fields[place] or ''
  end
  picture[8] = string.format('%.0f', redis.call('HLEN', KEYS[2 * i]))
  pictures[i] = picture
end
return pictures
