-- Set overdue holds aside, so that their end can be asked of the ledger: nobody can revive them meanwhile.
--
-- Invariant: a hold whose order waits in this lane's outbox is the drain's to end and is not claimed; one that is
-- claimed answers no repetition of its request any more, so that no order can be accepted on it while the ledger is
-- told that it expired.
--
-- KEYS
--   1 sc:{n}:lane           hash    the lane's state
--   2 sc:{n}:outbox         stream  decisions that are not yet in the ledger
--   3 sc:{n}:holds          zset    nonce by deadline (milliseconds since 1970)
--   4… sc:{n}:hold:<nonce>  hash    state, request_id, lines, order_lane, deadline_ms
-- ARGV
--   1  grace  milliseconds  how long after its deadline a hold is overdue: clocks of several servers may differ
--   2… nonce  one per hold, in the order of KEYS 4…
-- RETURNS
--   {built epoch, nonce, request id, lines, order lane, deadline, …}  the holds that were claimed, now or before; of
--   one that has ended only its deadline was left, which is gone now
-- COST O(number of holds * log n)

if #KEYS < 4 or #ARGV ~= #KEYS - 2 then
  return redis.error_reply('ERR claim_holds takes the lane, its outbox, the deadlines, holds; grace, as many nonces')
end
local lane_key, outbox_key, holds_key, grace_ms = KEYS[1], KEYS[2], KEYS[3], tonumber(ARGV[1])

local time = redis.call('TIME')
local overdue_ms = time[1] * 1000 + math.floor(time[2] / 1000) - grace_ms

local function waits(request_id)
  local epoch, number = string.match(request_id, '^%d+%.(%d+)%.(%d+)%.')
  if not epoch then
    return false
  end
  local entry_id = epoch .. '-' .. number
  return redis.call('XRANGE', outbox_key, entry_id, entry_id)[1] ~= nil
end

local claimed = {redis.call('HGET', lane_key, 'built_epoch') or ''}
for i = 2, #ARGV do
  local nonce, hold_key = ARGV[i], KEYS[i + 2]
  local deadline_ms = redis.call('ZSCORE', holds_key, nonce)
  local hold = redis.call('HMGET', hold_key, 'state', 'request_id', 'lines', 'order_lane', 'deadline_ms')
  if hold[1] ~= 'held' and hold[1] ~= 'ending' then
    redis.call('ZREM', holds_key, nonce)
  elseif deadline_ms and tonumber(deadline_ms) <= overdue_ms and not waits(hold[2]) then
    redis.call('HSET', hold_key, 'state', 'ending')
    for _, word in ipairs({nonce, hold[2], hold[3], hold[4] or '', hold[5] or deadline_ms}) do
      claimed[#claimed + 1] = word
    end
  end
end
return claimed
