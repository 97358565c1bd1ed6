-- Give the units of one hold back: its order failed, expired or never came.
--
-- Invariant: what a hold took is given back once, to the unit; releasing again, or after settling, changes nothing.
--
-- KEYS
--   1 sc:{n}:holds         zset  nonce by deadline
--   2 sc:{n}:hold:<nonce>  hash  state, lines, keep_ms
--   3… sc:{n}:sku:<id>     hash  available: one key per product of the hold
-- ARGV
--   1  nonce  text
--   2… product id  integer, in the order of KEYS 3…
-- RETURNS (the first that applies)
--   {'gone'}      there is no such hold any more; nothing changes
--   {'released'}
-- COST O(number of products)

if #KEYS < 3 or #ARGV ~= #KEYS - 1 then
  return redis.error_reply('ERR release_stock takes the deadlines, the hold, its products; the nonce, as many ids')
end
local holds_key, hold_key, nonce = KEYS[1], KEYS[2], ARGV[1]

local hold = redis.call('HMGET', hold_key, 'state', 'lines', 'keep_ms')
if hold[1] ~= 'held' then
  redis.call('ZREM', holds_key, nonce)
  return {'gone'}
end

local key_of = {}
for i = 2, #ARGV do
  key_of[ARGV[i]] = KEYS[i + 1]
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
  redis.call('PEXPIRE', hold_key, hold[3])
else
  redis.call('DEL', hold_key)
end
redis.call('ZREM', holds_key, nonce)
return {'released'}
