-- Put the units of a cancelled order back on sale.
--
-- Invariant: the units of one order come back once, however often this is repeated. A lane that was built after the
-- cancellation has counted them already: who read in the ledger that they were to be returned, and then slept through
-- the rebuild, returns nothing. Returns are counted, so that the guard notices a server that came back without one.
--
-- KEYS
--   1 sc:{n}:lane              hash    the lane's state
--   2 sc:{n}:returned:<nonce>  string  marker
--   3… sc:{n}:sku:<id>         hash    available: one key per product
-- ARGV
--   1  built epoch  integer       the lane's, as the ledger had it when it said that the units are to be returned
--   2  lanes        count         as the caller knows it: with another number the products are elsewhere
--   3  keep time    milliseconds  how long the marker is kept
--   4… quantity     units, in the order of KEYS 3…
-- RETURNS (the first that applies)
--   {'lane_not_ready'}     closed, of another number of lanes, or the ledger knows of a rebuild that is yet to come
--   {'rebuilt'}
--   {'already_returned', epoch, total}  total: of all returns since the lane was built
--   {'returned', epoch, total}
-- COST O(number of products)

if #KEYS < 3 or #ARGV ~= #KEYS + 1 then
  return redis.error_reply('ERR return_stock takes the lane, the marker, products; 3 arguments, as many quantities')
end
local lane_key, marker_key, built_epoch, lanes, keep_ms = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
for i = 4, #ARGV do
  if not string.match(ARGV[i], '^[1-9]%d*$') then
    return redis.error_reply('ERR return_stock takes quantities of at least 1')
  end
end

local state = redis.call('HMGET', lane_key, 'open', 'replid', 'built_epoch', 'epoch', 'returned', 'lanes')
local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if state[1] ~= '1' or state[2] ~= server or state[6] ~= lanes
  or tonumber(state[3]) < tonumber(built_epoch) then
  return {'lane_not_ready'}
end
if tonumber(state[3]) > tonumber(built_epoch) then
  return {'rebuilt'}
end
if redis.call('EXISTS', marker_key) == 1 then
  return {'already_returned', state[4], state[5] or '0'}
end

redis.call('SET', marker_key, '1', 'PX', keep_ms)
for i = 3, #KEYS do
  redis.call('HINCRBY', KEYS[i], 'available', ARGV[i + 1])
end
return {'returned', state[4], string.format('%.0f', redis.call('HINCRBY', lane_key, 'returned', 1))}
