-- Tell what is free, held and returned of several products of one lane, as one consistent picture. Changes nothing.
--
-- Invariant: none to protect; the values belong to one instant. The caller names the holds it has heard of; a hold
-- that came since is told by its nonce alone, for the caller to look up.
--
-- KEYS
--   1 sc:{n}:lane   hash    the lane's state
--   2 sc:{n}:holds  zset    nonce by deadline
--   3… sc:{n}:sku:<id> or sc:{n}:returned:<nonce> or sc:{n}:hold:<nonce>  hash, string or hash
-- ARGV
--   1 limit  entries  how many nonces are told
--   2… sku | returned | hold: what each of KEYS 3… is
-- RETURNS
--   {epoch, holds, {nonce, …}, …}, and then one table for each of KEYS 3…, in their order:
--   {version, name, price, status, supplied, available} or {marker} or {state, request id, lines, deadline}
--   texts, '' where there is no such field; holds counts them all; a marker is '1' where it exists, else '0'
-- COST O(number of keys + limit)

if #KEYS < 3 or #ARGV ~= #KEYS - 1 then
  return redis.error_reply('ERR picture_stock takes the lane, the holds and more keys; the limit, what each of them is')
end
local lane_key, holds_key, limit = KEYS[1], KEYS[2], tonumber(ARGV[1])

local function texts(fields, count)
  for i = 1, count do
    fields[i] = fields[i] or ''
  end
  return fields
end

local picture = {redis.call('HGET', lane_key, 'epoch') or ''}
picture[2] = string.format('%.0f', redis.call('ZCARD', holds_key))
picture[3] = redis.call('ZRANGE', holds_key, 0, limit - 1)
for i = 3, #KEYS do
  local key, what = KEYS[i], ARGV[i - 1]
  if what == 'sku' then
    local fields = redis.call('HMGET', key, 'version', 'name', 'price', 'status', 'supplied', 'available')
    picture[i + 1] = texts(fields, 6)
  elseif what == 'hold' then
    picture[i + 1] = texts(redis.call('HMGET', key, 'state', 'request_id', 'lines', 'deadline_ms'), 4)
  else
    picture[i + 1] = {string.format('%.0f', redis.call('EXISTS', key))}
  end
end
return picture
