-- Give the units of one hold back: its order failed, expired or never came.
--
-- Invariant: what a hold took is given back once, to the unit; releasing again, or after settling, changes nothing.
-- Holds do not outlive a rebuild of their lane: who slept through one does not end a hold of the lane's next life. Nor
-- does who slept until a repetition of the request had taken the units anew: that hold has another deadline. And an
-- attempt that came to nothing leaves alone what another one under the same nonce counts on.
--
-- KEYS
--   1 sc:{n}:lane          hash  the lane's state
--   2 sc:{n}:holds         zset  nonce by deadline
--   3 sc:{n}:hold:<nonce>  hash  state, lines, keep_ms, deadline_ms, shared
--   4… sc:{n}:sku:<id>     hash  available: one key per product of the hold
-- ARGV
--   1  built epoch  integer  the lane's when the units were taken
--   2  nonce        text
--   3  deadline     milliseconds since 1970, of the hold that is meant; '' for whichever there is
--   4  shared       1, or 0 to leave a hold that a repetition of the request was told of, too
--   5… product id   integer, in the order of KEYS 4…
-- RETURNS (the first that applies)
--   {'rebuilt'}
--   {'gone'}      there is no such hold any more; nothing changes
--   {'shared'}    nothing changes
--   {'released'}
-- COST O(number of products)

if #KEYS < 4 or #ARGV ~= #KEYS + 1 then
  return redis.error_reply('ERR release_stock takes the lane, the deadlines, the hold, its products; ' ..
    'the built epoch, the nonce, its deadline, whether shared, as many ids')
end
local lane_key, holds_key, hold_key, built_epoch, nonce = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
if redis.call('HGET', lane_key, 'built_epoch') ~= built_epoch then
  return {'rebuilt'}
end

local hold = redis.call('HMGET', hold_key, 'state', 'lines', 'keep_ms', 'shared', 'deadline_ms')
if hold[1] ~= 'held' and hold[1] ~= 'ending' then
  redis.call('ZREM', holds_key, nonce)
  return {'gone'}
end
if ARGV[3] ~= '' and (hold[5] or redis.call('ZSCORE', holds_key, nonce)) ~= ARGV[3] then
  return {'gone'}
end
if hold[4] and ARGV[4] == '0' then
  return {'shared'}
end

local key_of = {}
for i = 4, #KEYS do
  key_of[ARGV[i + 1]] = KEYS[i]
end
local taken = {}
for product_id, quantity in string.gmatch(hold[2], '(%d+):(%d+):%d+') do
  if not key_of[product_id] then
    return redis.error_reply('ERR release_stock was not given every product of the hold')
  end
  taken[#taken + 1] = {key_of[product_id], quantity}
end

for _, line in ipairs(taken) do
  redis.call('HINCRBY', line[1], 'available', line[2])
end
if tonumber(hold[3]) > 0 then
  redis.call('HSET', hold_key, 'state', 'released')
  redis.call('HDEL', hold_key, 'shared')
  redis.call('PEXPIRE', hold_key, hold[3])
else
  redis.call('DEL', hold_key)
end
redis.call('ZREM', holds_key, nonce)
return {'released'}
