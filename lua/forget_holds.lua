-- Drop holds of a lane that is being built: the ledger's stock does not know them, and their orders fail.
--
-- Invariant: only the rebuild that the lane is being built by may write. A hold of the lane's next life has the same
-- nonce if its caller repeats an idempotency key; a rebuild that slept must not take it away.
--
-- KEYS
--   1 sc:{n}:lane           hash  the lane's state
--   2 sc:{n}:holds          zset  nonce by deadline
--   3… sc:{n}:hold:<nonce>  hash
-- ARGV
--   1  token  integer  the epoch of the build
--   2… nonce  one per hold, in the order of KEYS 3…
-- RETURNS (the first that applies)
--   {'superseded'}
--   {'built'}
-- COST O(number of holds)

if #KEYS < 3 or #ARGV ~= #KEYS - 1 then
  return redis.error_reply('ERR forget_holds takes the lane, the deadlines, the holds; the token and as many nonces')
end
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then
  return {'superseded'}
end
for i = 2, #ARGV do
  redis.call('DEL', KEYS[i + 1])
  redis.call('ZREM', KEYS[2], ARGV[i])
end
return {'built'}
