-- Make the ledger's description of a product the one the gate decides by, at once.
--
-- Invariant: an older version never replaces a newer one; stock that came in is added once, however often it is told,
-- and what is held or sold stays away.
--
-- KEYS
--   1 sc:{n}:lane      hash  the lane's state
--   2 sc:{n}:sku:<id>  hash  version, name, price, status, supplied, available
-- ARGV
--   1 epoch     integer
--   2 version   integer  grows with every change in the ledger
--   3 name      text
--   4 price     KRW per unit
--   5 status    ACTIVE | INACTIVE
--   6 supplied  units    all that ever came in
-- RETURNS (the first that applies)
--   {'lane_not_ready'}
--   {'stale_epoch', epoch}
--   {'unchanged', available, epoch}   the gate knows this version or a newer one
--   {'published', available, epoch}
-- COST O(1)

if #KEYS ~= 2 or #ARGV ~= 6 then
  return redis.error_reply('ERR publish_product takes 2 keys and 6 arguments')
end
local lane_key, sku_key = KEYS[1], KEYS[2]
local epoch, version, name, price, status, supplied = unpack(ARGV)

local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid')
local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if state[1] ~= '1' or state[3] ~= server then
  return {'lane_not_ready'}
end
if state[2] ~= epoch then
  return {'stale_epoch', state[2]}
end

local known = redis.call('HMGET', sku_key, 'version', 'supplied', 'available')
if known[1] and tonumber(known[1]) >= tonumber(version) then
  return {'unchanged', known[3], epoch}
end

local arrived = string.format('%.0f', tonumber(supplied) - tonumber(known[2] or '0'))
redis.call('HSET', sku_key, 'version', version, 'name', name, 'price', price, 'status', status, 'supplied', supplied)
local available = redis.call('HINCRBY', sku_key, 'available', arrived)
return {'published', string.format('%.0f', available), epoch}
