-- Open a lane that was built from the ledger, on the server that is running this script and on no other.
--
-- Invariant: an epoch is opened once, by the rebuild that took it, and the numbers of decisions never run backwards.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch        integer  the build's token: what begin_build was given
--   2 replication  text     id of the history that was examined; another one here means: examine again
--   3 last number  integer  the last decision known to the ledger
--   4 lanes        integer  the number of lanes the data is built with
--   5 request key  text     the secret that request ids are sealed with
-- RETURNS (the first that applies)
--   {'server_changed', replication id}
--   {'superseded'}   another rebuild came, or the server forgot this one
--   {'opened'}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 5 then
  return redis.error_reply('ERR open_lane takes 1 key and 5 arguments')
end
local lane_key = KEYS[1]
local epoch, replid, last_number, lanes, request_key = unpack(ARGV)

local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if server ~= replid then
  return {'server_changed', server}
end
local known = redis.call('HMGET', lane_key, 'building', 'last_number')
if known[1] ~= epoch then
  return {'superseded'}
end
if known[2] and tonumber(known[2]) > tonumber(last_number) then
  last_number = known[2]
end

redis.call('HSET', lane_key, 'open', '1', 'epoch', epoch, 'built_epoch', epoch, 'replid', replid,
  'last_number', last_number, 'lanes', lanes, 'request_key', request_key, 'returned', '0')
redis.call('HDEL', lane_key, 'building', 'claim')
return {'opened'}
