-- Write a product as the ledger knows it into a lane that is being built.
--
-- Invariant: only the rebuild that the lane is being built by may write. Nothing is held in a rebuilt lane.
--
-- KEYS
--   1 sc:{n}:lane      hash  the lane's state
--   2 sc:{n}:sku:<id>  hash  version, name, price, status, supplied, available
-- ARGV
--   1 token      integer  the epoch of the build
--   2 version    integer
--   3 name       text
--   4 price      KRW per unit
--   5 status     ACTIVE | INACTIVE
--   6 supplied   units    all that ever came in
--   7 available  units    what completed orders left over
-- RETURNS (the first that applies)
--   {'superseded'}
--   {'built'}
-- COST O(1)

if #KEYS ~= 2 or #ARGV ~= 7 then
  return redis.error_reply('ERR build_product takes 2 keys and 7 arguments')
end
local token, version, name, price, status, supplied, available = unpack(ARGV)
if redis.call('HGET', KEYS[1], 'building') ~= token then
  return {'superseded'}
end
redis.call('HSET', KEYS[2], 'version', version, 'name', name, 'price', price, 'status', status,
  'supplied', supplied, 'available', available)
return {'built'}
