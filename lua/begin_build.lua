-- Begin to build a lane from the ledger: whatever is written for this build carries its epoch as a token.
--
-- Invariant: of several rebuilds of a lane only the newest may write, and none into a lane that is open. Epochs are
-- taken from the ledger, one for each rebuild, so the greater one is the newer one. A rebuild that slept while another
-- opened the lane is refused here, and in the middle of its work by the scripts that look for the token.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch        integer  taken from the ledger for this rebuild
--   2 replication  text     id of the history that was examined; another one here means: examine again
-- RETURNS (the first that applies)
--   {'server_changed', replication id}
--   {'epoch_not_newer', epoch}   the lane was opened, or is being built, under this epoch or a newer one
--   {'building'}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 2 then
  return redis.error_reply('ERR begin_build takes 1 key and 2 arguments')
end
local lane_key, epoch, replid = KEYS[1], ARGV[1], ARGV[2]

local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if server ~= replid then
  return {'server_changed', server}
end
for _, known in ipairs(redis.call('HMGET', lane_key, 'epoch', 'building')) do
  if known and tonumber(known) >= tonumber(epoch) then
    return {'epoch_not_newer', known}
  end
end
redis.call('HSET', lane_key, 'open', '0', 'building', epoch)
return {'building'}
