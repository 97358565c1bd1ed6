-- End holds whose units were sold: the ledger has the orders, so the units do not come back.
--
-- Invariant: a hold ends once; settling it again, or after its release, changes nothing.
--
-- KEYS
--   1 sc:{n}:holds          zset  nonce by deadline
--   2… sc:{n}:hold:<nonce>  hash  state, keep_ms
-- ARGV
--   1… nonce  one per hold, in the order of KEYS 2…
-- RETURNS
--   {'settled', count}  how many of them were still held
-- COST O(number of holds)

if #KEYS < 2 or #ARGV ~= #KEYS - 1 then
  return redis.error_reply('ERR settle_holds takes the deadlines, the holds and as many nonces')
end
local holds_key = KEYS[1]

local settled = 0
for i, nonce in ipairs(ARGV) do
  local hold_key = KEYS[i + 1]
  local hold = redis.call('HMGET', hold_key, 'state', 'keep_ms')
  if hold[1] == 'held' then
    settled = settled + 1
    if tonumber(hold[2]) > 0 then
      redis.call('HSET', hold_key, 'state', 'settled')
      redis.call('PEXPIRE', hold_key, hold[2])
    else
      redis.call('DEL', hold_key)
    end
  end
  redis.call('ZREM', holds_key, nonce)
end
return {'settled', settled}
