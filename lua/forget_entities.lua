-- Drop what a lane that is being built knows of coupons and products: they will live in other lanes.
--
-- Invariant: only the rebuild that the lane is being built by may write. In a lane that somebody else has opened since,
-- a coupon without its winners would be given to them again.
--
-- KEYS
--   1 sc:{n}:lane                                                hash  the lane's state
--   2… sc:{n}:coupon:<id>, sc:{n}:coupon:<id>:winners, sc:{n}:sku:<id>  hash
-- ARGV
--   1 token  integer  the epoch of the build
-- RETURNS (the first that applies)
--   {'superseded'}
--   {'built'}
-- COST O(number of keys): what they hold is freed in the background

if #KEYS < 2 or #ARGV ~= 1 then
  return redis.error_reply('ERR forget_entities takes the lane, the keys to drop; the token')
end
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then
  return {'superseded'}
end
for i = 2, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
return {'built'}
