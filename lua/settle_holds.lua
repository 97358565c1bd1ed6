-- End holds whose units were sold: the ledger has the orders, so the units do not come back.
--
-- Invariant: a hold ends once; settling it again, or after its release, changes nothing. Holds do not outlive a rebuild
-- of their lane: who slept through one does not end a hold of the lane's next life that happens to have the same nonce.
--
-- KEYS
--   1 sc:{n}:lane           hash  the lane's state
--   2 sc:{n}:holds          zset  nonce by deadline
--   3… sc:{n}:hold:<nonce>  hash  state, keep_ms
-- ARGV
--   1  built epoch  integer  the lane's when the units were taken
--   2… nonce        one per hold, in the order of KEYS 3…
-- RETURNS (the first that applies)
--   {'rebuilt'}
--   {'settled', count}  how many of them had not ended
-- COST O(number of holds)

if #KEYS < 3 or #ARGV ~= #KEYS - 1 then
  return redis.error_reply('ERR settle_holds takes the lane, the deadlines, the holds; the built epoch, as many nonces')
end
local lane_key, holds_key = KEYS[1], KEYS[2]
if redis.call('HGET', lane_key, 'built_epoch') ~= ARGV[1] then
  return {'rebuilt'}
end

local settled = 0
for i = 2, #ARGV do
  local nonce, hold_key = ARGV[i], KEYS[i + 1]
  local hold = redis.call('HMGET', hold_key, 'state', 'keep_ms')
  if hold[1] == 'held' or hold[1] == 'ending' then
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
