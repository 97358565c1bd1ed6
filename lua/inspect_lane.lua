-- Tell how a lane stands and which server holds it, as one consistent picture. Changes nothing.
--
-- Invariant: none to protect; the values belong to one instant.
--
-- KEYS
--   1 sc:{n}:lane    hash    the lane's state
--   2 sc:{n}:outbox  stream  decisions that are not yet in the ledger
-- ARGV none
-- RETURNS
--   {open, epoch, approved replication id, last number, lanes, request key, this server's replication id, backlog,
--    head's age, built epoch, returns carried out since then}
--   texts, '' where the lane has no such field; backlog in entries; age in milliseconds, '' for an empty outbox;
--   a head that does not say when it was decided counts as the oldest there can be
-- COST O(1)

if #KEYS ~= 2 or #ARGV ~= 0 then
  return redis.error_reply('ERR inspect_lane takes 2 keys and no arguments')
end
local lane_key, outbox_key = KEYS[1], KEYS[2]

local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid', 'last_number', 'lanes', 'request_key')
for i = 1, 6 do
  state[i] = state[i] or ''
end
state[10] = redis.call('HGET', lane_key, 'built_epoch') or ''
state[11] = redis.call('HGET', lane_key, 'returned') or '0'
state[7] = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)') or ''
state[8] = string.format('%.0f', redis.call('XLEN', outbox_key))
state[9] = ''
local head = redis.call('XRANGE', outbox_key, '-', '+', 'COUNT', 1)[1]
if head then
  local time = redis.call('TIME')
  local fields, decided_at_ms = head[2], 0
  for i = 1, #fields, 2 do
    if fields[i] == 'decided_at_ms' then
      -- Only the drain can put a spoilt entry aside. Whoever looks must not stumble over it, and has to ring for it.
      decided_at_ms = tonumber(string.match(fields[i + 1], '^%d+$') or '0')
    end
  end
  state[9] = string.format('%.0f', math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - decided_at_ms))
end
return state
