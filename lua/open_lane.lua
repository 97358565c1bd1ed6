-- Open a lane under a new epoch, on the server that is running this script and on no other.
--
-- Invariant: an epoch is opened once, epochs only grow, and the numbers of decisions never run backwards.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch        integer  greater than any this lane had
--   2 replication  text     id of the history that was examined; another one here means: examine again
--   3 last number  integer  the last decision known to the ledger or to this lane, whichever is greater
--   4 lanes        integer  the number of lanes the data is built with
--   5 request key  text     the secret that request ids are sealed with
--   6 rebuilt      1 when the lane was just built from the ledger, 0 when it goes on with what it had
-- RETURNS (the first that applies)
--   {'server_changed', replication id}
--   {'epoch_not_newer', epoch}
--   {'opened'}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 6 then
  return redis.error_reply('ERR open_lane takes 1 key and 6 arguments')
end
local lane_key = KEYS[1]
local epoch, replid, last_number, lanes, request_key, rebuilt = unpack(ARGV)

local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if server ~= replid then
  return {'server_changed', server}
end
local known = redis.call('HMGET', lane_key, 'epoch', 'last_number')
if known[1] and tonumber(known[1]) >= tonumber(epoch) then
  return {'epoch_not_newer', known[1]}
end
if known[2] and tonumber(known[2]) > tonumber(last_number) then
  last_number = known[2]
end

redis.call('HSET', lane_key, 'open', '1', 'epoch', epoch, 'replid', replid, 'last_number', last_number,
  'lanes', lanes, 'request_key', request_key)
if rebuilt == '1' then
  redis.call('HSET', lane_key, 'built_epoch', epoch)
end
return {'opened'}
