-- Begin to build a lane from the ledger: whatever is written for this build carries its epoch as a token.
--
-- Invariant: of several rebuilds of a lane only the one that closed it last may write, and none into a lane that is
-- open. Who closes a lane knows the ledger's newest epoch by then, and takes the next one afterwards: so nobody opens
-- the lane any more under an epoch that the next one does not stand on. A rebuild that slept while another closed the
-- lane is refused here, and in the middle of its work by the scripts that look for the token.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch        integer  taken from the ledger for this rebuild
--   2 replication  text     id of the history that was examined; another one here means: examine again
--   3 claim        text     what the lane was closed with
-- RETURNS (the first that applies)
--   {'server_changed', replication id}
--   {'epoch_not_newer', epoch}   the lane was opened, or is being built, under this epoch or a newer one
--   {'superseded'}               somebody else closed the lane since, or the server forgot that it was closed
--   {'building'}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 3 then
  return redis.error_reply('ERR begin_build takes 1 key and 3 arguments')
end
local lane_key = KEYS[1]
local epoch, replid, claim = unpack(ARGV)

local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if server ~= replid then
  return {'server_changed', server}
end
for _, known in ipairs(redis.call('HMGET', lane_key, 'epoch', 'building')) do
  if known and tonumber(known) >= tonumber(epoch) then
    return {'epoch_not_newer', known}
  end
end
if redis.call('HGET', lane_key, 'claim') ~= claim then
  return {'superseded'}
end
redis.call('HSET', lane_key, 'building', epoch)
return {'building'}
