-- Remember, in a lane that is being built, that the stock of these cancelled orders is counted already.
--
-- Invariant: only the rebuild that the lane is being built by may write; return_stock finds the marker and does
-- nothing.
--
-- KEYS
--   1 sc:{n}:lane               hash    the lane's state
--   2… sc:{n}:returned:<nonce>  string  marker
-- ARGV
--   1 token      integer       the epoch of the build
--   2 keep time  milliseconds  how long the markers are kept
-- RETURNS (the first that applies)
--   {'superseded'}
--   {'built'}
-- COST O(number of orders)

if #KEYS < 2 or #ARGV ~= 2 then
  return redis.error_reply('ERR mark_returned takes the lane and the markers; 2 arguments')
end
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then
  return {'superseded'}
end
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], '1', 'PX', ARGV[2])
end
return {'built'}
