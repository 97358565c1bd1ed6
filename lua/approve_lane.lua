-- Let a lane go on with what it has, under a new epoch, on the server that is running this script and on no other.
--
-- Invariant: only the very lane that was examined is approved: same history, same epoch, same last decision, and not
-- one that somebody closed or began to build meanwhile.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch           integer  taken from the ledger for this approval
--   2 replication     text     id of the history that was examined
--   3 examined epoch  integer  the lane's epoch when it was examined
--   4 last number     integer  the lane's last decision when it was examined: what the ledger now fences by
-- RETURNS (the first that applies)
--   {'server_changed', replication id}
--   {'lane_changed'}
--   {'approved'}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 4 then
  return redis.error_reply('ERR approve_lane takes 1 key and 4 arguments')
end
local lane_key = KEYS[1]
local epoch, replid, examined_epoch, last_number = unpack(ARGV)

local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if server ~= replid then
  return {'server_changed', server}
end
local known = redis.call('HMGET', lane_key, 'open', 'epoch', 'last_number', 'building')
if known[1] ~= '1' or known[2] ~= examined_epoch or known[3] ~= last_number or known[4]
  or tonumber(epoch) <= tonumber(examined_epoch) then
  return {'lane_changed'}
end
redis.call('HSET', lane_key, 'epoch', epoch, 'replid', replid)
return {'approved'}
