-- Tell which decisions still wait in the outbox. Changes nothing.
--
-- Invariant: an entry leaves the outbox only after the ledger has committed it; so whoever asks here first and
-- the ledger second never misses a request that exists.
--
-- KEYS
--   1 sc:{n}:lane    hash    the lane's state
--   2 sc:{n}:outbox  stream  decisions that are not yet in the ledger
-- ARGV
--   1… entry id  <epoch>-<number> of each request
-- RETURNS
--   {epoch, answer, …}  the lane's present epoch, '' while it is not ready; an answer for each entry id, of these:
--     {'waiting', request id, user id}
--     {'absent'}
-- COST O(number of requests * log length of the outbox)

if #KEYS ~= 2 or #ARGV < 1 then
  return redis.error_reply('ERR find_requests takes 2 keys and at least 1 argument')
end
local lane_key, outbox_key = KEYS[1], KEYS[2]

local reply = {''}
local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid')
local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if state[1] == '1' and state[3] == server then
  reply[1] = state[2]
end
for i, entry_id in ipairs(ARGV) do
  local entry = redis.call('XRANGE', outbox_key, entry_id, entry_id)[1]
  if entry then
    local request_id, user_id = '', ''
    for field = 1, #entry[2], 2 do
      if entry[2][field] == 'request_id' then
        request_id = entry[2][field + 1]
      elseif entry[2][field] == 'user_id' then
        user_id = entry[2][field + 1]
      end
    end
    reply[1 + i] = {'waiting', request_id, user_id}
  else
    reply[1 + i] = {'absent'}
  end
end
return reply
