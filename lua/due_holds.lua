-- List holds whose deadline has passed, by Redis' own clock. Changes nothing.
--
-- Invariant: none to protect; the hold keys are read by the caller, one by one.
--
-- KEYS
--   1 sc:{n}:holds  zset  nonce by deadline
-- ARGV
--   1 limit  entries
-- RETURNS
--   {nonce, …}  the longest overdue first
-- COST O(log n + limit)

if #KEYS ~= 1 or #ARGV ~= 1 then
  return redis.error_reply('ERR due_holds takes 1 key and 1 argument')
end
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return redis.call('ZRANGE', KEYS[1], '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, ARGV[1])
