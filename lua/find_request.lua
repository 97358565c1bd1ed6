-- Tell whether a decision still waits in the outbox. Changes nothing.
--
-- Invariant: an entry leaves the outbox only after the ledger has committed it; so whoever asks here first and
-- the ledger second never misses a request that exists.
--
-- KEYS
--   1 sc:{n}:lane    hash    the lane's state
--   2 sc:{n}:outbox  stream  decisions that are not yet in the ledger
-- ARGV
--   1 entry id  <epoch>-<number>
-- RETURNS (the first that applies)
--   {'waiting', {field, value, …}}
--   {'lane_not_ready'}
--   {'absent', epoch}               the lane's present epoch
-- COST O(log n) in the length of the outbox

if #KEYS ~= 2 or #ARGV ~= 1 then
  return redis.error_reply('ERR find_request takes 2 keys and 1 argument')
end
local lane_key, outbox_key = KEYS[1], KEYS[2]
local entry_id = ARGV[1]

local entry = redis.call('XRANGE', outbox_key, entry_id, entry_id)[1]
if entry then
  return {'waiting', entry[2]}
end
local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid')
if state[1] ~= '1' or state[3] ~= string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') then
  return {'lane_not_ready'}
end
return {'absent', state[2]}
