-- Close a lane: from now on it decides nothing. What it decided stays in its outbox.
--
-- Invariant: who looked at a lane, slept, and comes back when somebody else has opened it anew does not close that.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch  integer  the epoch that was examined
-- RETURNS (the first that applies)
--   {'lane_changed', epoch}   the lane's present epoch, '' for none
--   {'closed'}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 1 then
  return redis.error_reply('ERR close_lane takes 1 key and 1 argument')
end
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
if epoch ~= ARGV[1] then
  return {'lane_changed', epoch}
end
redis.call('HSET', KEYS[1], 'open', '0')
return {'closed'}
