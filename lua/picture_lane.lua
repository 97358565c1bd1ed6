-- Tell how a lane, its outbox and its holds stand to each other, as one consistent picture. Changes nothing.
--
-- Invariant: none to protect; the values belong to one instant.
--
-- KEYS
--   1 sc:{n}:lane    hash    the lane's state
--   2 sc:{n}:outbox  stream  decisions that are not yet in the ledger
--   3 sc:{n}:holds   zset    nonce by deadline
-- ARGV
--   1 overdue  milliseconds  how long a deadline has to be past for its hold to be listed
--   2 limit    entries       how many of those are listed
-- RETURNS
--   {epoch, last number, built epoch, lanes, backlog, head's id, newest id, nonce, …}
--   texts, '' where the lane has no such field and for the ids of an empty outbox; backlog in entries; nonces of the
--   longest overdue holds first
-- COST O(log n + limit)

if #KEYS ~= 3 or #ARGV ~= 2 then
  return redis.error_reply('ERR picture_lane takes 3 keys and 2 arguments')
end
local lane_key, outbox_key, holds_key = KEYS[1], KEYS[2], KEYS[3]
local overdue_ms, limit = tonumber(ARGV[1]), ARGV[2]

local picture = redis.call('HMGET', lane_key, 'epoch', 'last_number', 'built_epoch', 'lanes')
for i = 1, 4 do
  picture[i] = picture[i] or ''
end
picture[5] = string.format('%.0f', redis.call('XLEN', outbox_key))
local head = redis.call('XRANGE', outbox_key, '-', '+', 'COUNT', 1)[1]
local newest = redis.call('XREVRANGE', outbox_key, '+', '-', 'COUNT', 1)[1]
picture[6] = head and head[1] or ''
picture[7] = newest and newest[1] or ''

local time = redis.call('TIME')
local before_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - overdue_ms)
for _, nonce in ipairs(redis.call('ZRANGE', holds_key, '-inf', before_ms, 'BYSCORE', 'LIMIT', 0, limit)) do
  picture[#picture + 1] = nonce
end
return picture
