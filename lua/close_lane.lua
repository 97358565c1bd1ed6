-- Close a lane for whoever will build it: from now on it decides nothing, and an earlier build of it is over. What it
-- decided stays in its outbox.
--
-- Invariant: who looked at a lane, slept, and comes back when somebody else has opened it anew does not close that; and
-- a build that was at work when the lane was looked at does not open it behind the back of who closes it.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch  integer  the epoch that was examined
--   2 claim  text     unlike any other: begin_build takes it from whoever closed the lane last
-- RETURNS (the first that applies)
--   {'lane_changed', epoch}   the lane's present epoch, '' for none
--   {'closed'}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 2 then
  return redis.error_reply('ERR close_lane takes 1 key and 2 arguments')
end
local lane_key, examined_epoch, claim = KEYS[1], ARGV[1], ARGV[2]
local epoch = redis.call('HGET', lane_key, 'epoch') or ''
if epoch ~= examined_epoch then
  return {'lane_changed', epoch}
end
redis.call('HDEL', lane_key, 'building')
redis.call('HSET', lane_key, 'open', '0', 'claim', claim)
return {'closed'}
