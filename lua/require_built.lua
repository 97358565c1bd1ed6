-- Tell a lane in which epoch other lanes were built last: what they held before is void.
--
-- Invariant: what is void stays void. An order that slept between two lanes while the first of them was rebuilt is not
-- accepted in the last one: its hold is gone, and somebody else may have the units.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1… lane, epoch  integers  another lane, and the epoch of its last rebuild, or of the one that is about to begin
-- RETURNS
--   {'required'}
-- COST O(number of lanes told of)

if #KEYS ~= 1 or #ARGV < 2 or #ARGV % 2 ~= 0 then
  return redis.error_reply('ERR require_built takes 1 key and pairs of lane and epoch')
end
for i = 1, #ARGV, 2 do
  local field, epoch = 'built:' .. ARGV[i], ARGV[i + 1]
  local known = redis.call('HGET', KEYS[1], field)
  if not known or tonumber(known) < tonumber(epoch) then
    redis.call('HSET', KEYS[1], field, epoch)
  end
end
return {'required'}
