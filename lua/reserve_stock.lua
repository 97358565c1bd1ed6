-- Take units of several products of one lane for one order: all of them or none.
--
-- Invariant: no product's available units go below zero, and units are never taken without a hold that says for whom
-- and until when. In the order's last lane the hold and the outbox entry are one atomic step, and only while every
-- hold in an earlier lane is within its time, and that lane was not rebuilt: whoever slept between two lanes is not
-- accepted on holds that have ended.
--
-- KEYS
--   1 sc:{n}:lane          hash    the lane's state (open, epoch, replid, last_number, built_epoch, built:<lane>)
--   2 sc:{n}:outbox        stream  decisions that are not yet in the ledger
--   3 sc:{n}:bell          string  armed while somebody has been told to drain this lane
--   4 sc:{n}:hold:<nonce>  hash    state, request_id, lines, keep_ms, order_lane, deadline_ms,
--                                  shared; of a refusal state, answer
--   5 sc:{n}:holds         zset    nonce by deadline (milliseconds since 1970)
--   6… sc:{n}:sku:<id>     hash    name, price, status, available: one key per product, each product once; behind
--      them, for each limit of the order, sc:{n}:turns:<who> (string: a moment, as take_turn.lua keeps it)
-- ARGV
--   1  order  text  '<name>=<value> …', every one of these:
--      lane            integer
--      epoch           integer       the epoch the caller believes in
--      nonce           text          the caller's part of the request id; the same nonce gets the same answer
--      user_id         integer
--      user_coupon_id  integer, or nothing for none
--      hold_ms         milliseconds  until the sweeper asks the ledger what became of the hold
--      keep_ms         milliseconds  how long the answer is remembered after its end; 0: not at all
--      bell_ms         milliseconds  how long an armed bell keeps others from ringing
--      backlog_limit   entries       a longer outbox closes the gate
--      order_lane      integer       the lane that the order is submitted in: the last one
--      held            '<lane>:<built epoch>:<deadline>,…' of the lanes reserved before, nothing for none
--      held_until_ms   milliseconds since 1970, the earliest deadline in lanes reserved before; nothing for none
--      lines           '<product>:<quantity>:<price>,…' reserved before, nothing for none
--      limits          '<pace>,<ahead>;…' (microseconds, as take_turn.lua takes them), nothing for none
--   2… product id, quantity (units) for KEYS 6…; then product id, name for every product reserved before
-- RETURNS (the first that applies)
--   {'lane_not_ready'}
--   {'stale_epoch', epoch}
--   {'ending'}                            this request's hold is overdue; its end is being asked of the ledger
--   {'key_reused'}                        the nonce is that of an order of other products, submitted in another lane
--   {'replayed', request id, 0, built epoch, deadline, lines, product id, name, …}   as 'reserved' was; the deadline
--     '' once the hold has ended
--   {'hold_expired'}                      a hold in an earlier lane is past its deadline, or older than a rebuild
--   {'wait', milliseconds}                whoever orders has had all their turns; nothing is changed or remembered
--   {'product_not_found', product id}                     unknown or not on sale
--   {'out_of_stock', product id, available, …}            every product that is short
--   {'backlogged'}
--   {'reserved', request id, ring, built epoch, deadline, lines, product id, name, …}
--     request id '' when nothing was appended; ring is 1 when the caller has to ring the bell
-- COST O(number of products and limits + log number of holds)

local limits = {}
for pace, ahead in string.gmatch(string.match(ARGV[1] or '', 'limits=(%S*)') or '', '(%d+),(%d+)') do
  limits[#limits + 1] = {pace = tonumber(pace), ahead = tonumber(ahead)}
end
local products = #KEYS - 5 - #limits
if products < 1 or #ARGV < 1 + 2 * products or #ARGV % 2 ~= 1 then
  return redis.error_reply('ERR reserve_stock takes 5 keys and the products, the order and pairs')
end
local lane_key, outbox_key, bell_key, hold_key, holds_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local order = {}
for name, value in string.gmatch(ARGV[1], '([%a_]+)=(%S*)') do
  order[name] = value
end
for _, name in ipairs({'lane', 'epoch', 'nonce', 'user_id', 'user_coupon_id', 'hold_ms', 'keep_ms', 'bell_ms',
  'backlog_limit', 'order_lane', 'held', 'held_until_ms', 'lines', 'limits'}) do
  if not order[name] then
    return redis.error_reply('ERR reserve_stock was not told ' .. name)
  end
end
local lane, epoch, nonce, append = order.lane, order.epoch, order.nonce, order.lane == order.order_lane
local hold_ms, keep_ms, bell_ms = tonumber(order.hold_ms), tonumber(order.keep_ms), order.bell_ms
local backlog_limit, held_until_ms = tonumber(order.backlog_limit), tonumber(order.held_until_ms)
if not (string.match(order.hold_ms, '^%d+$') and string.match(order.keep_ms, '^%d+$')
  and string.match(bell_ms, '^[1-9]%d*$')) then
  return redis.error_reply('ERR reserve_stock takes whole milliseconds')
end
local product_ids, quantities = {}, {}
for i = 1, products do
  product_ids[i], quantities[i] = ARGV[2 * i], ARGV[1 + 2 * i]
  if not string.match(quantities[i], '^[1-9]%d*$') then
    return redis.error_reply('ERR reserve_stock takes quantities of at least 1')
  end
end

local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid', 'last_number', 'built_epoch')
local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if state[1] ~= '1' or state[3] ~= server then
  return {'lane_not_ready'}
end
if state[2] ~= epoch then
  return {'stale_epoch', state[2]}
end
local built_epoch = state[5]

local function with_names(reply)
  for i = 1, products do
    reply[#reply + 1] = product_ids[i]
    reply[#reply + 1] = redis.call('HGET', KEYS[5 + i], 'name') or ''
  end
  return reply
end

local known = redis.call('HMGET', hold_key, 'state', 'request_id', 'lines', 'answer', 'deadline_ms', 'order_lane',
  'shared')
if known[1] == 'refused' then
  local answer = {}
  for word in string.gmatch(known[4], '%S+') do
    answer[#answer + 1] = word
  end
  return answer
end
if known[1] == 'ending' then
  return {'ending'}
end
-- Units that an earlier lane gave back are not held any more: there the request has to take them anew. What was
-- submitted is answered as it was, whatever became of it: the request id tells. What is held and not yet submitted
-- serves two attempts from now on, and neither may give it back when it fails.
if known[1] and not (known[1] == 'released' and known[2] == '') then
  if known[6] and known[6] ~= order.order_lane then
    return {'key_reused'}
  end
  if known[1] == 'held' and known[2] == '' and not known[7] then
    redis.call('HSET', hold_key, 'shared', '1')
  end
  local listed = redis.call('ZSCORE', holds_key, nonce)
  local deadline_ms = listed and (known[5] or listed) or ''
  return with_names({'replayed', known[2], 0, built_epoch, deadline_ms, known[3]})
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if held_until_ms and now_ms >= held_until_ms then
  return {'hold_expired'}
end
for earlier, built in string.gmatch(order.held, '(%d+):(%d+):%d+') do
  local required = redis.call('HGET', lane_key, 'built:' .. earlier)
  if required and tonumber(built) < tonumber(required) then
    return {'hold_expired'}
  end
end

-- A turn is taken as take_turn.lua does, which says how and why. What was answered before has cost its turn then.
local now, wait = time[1] * 1000000 + time[2], 0
for i, limit in ipairs(limits) do
  limit.key = KEYS[5 + products + i]
  local moment = math.max(tonumber(redis.call('GET', limit.key) or 0) or 0, now)
  limit.moment = math.min(moment, now + limit.ahead + limit.pace)
  wait = math.max(wait, limit.moment - limit.ahead - now)
end
if wait > 0 then
  return {'wait', math.ceil(wait / 1000)}
end
local function count_turn()
  for _, limit in ipairs(limits) do
    local moment = limit.moment + limit.pace
    redis.call('SET', limit.key, string.format('%.0f', moment), 'PX', math.ceil((moment - now) / 1000))
  end
end

-- A refusal is remembered only for a caller who asked under an idempotency key: it must hear the same no again.
local function refused(answer)
  count_turn()
  if keep_ms > 0 then
    redis.call('HSET', hold_key, 'state', 'refused', 'answer', table.concat(answer, ' '))
    redis.call('PEXPIRE', hold_key, keep_ms)
  end
  return answer
end

local lines, short = {}, {'out_of_stock'}
for i = 1, products do
  local product_id, quantity = product_ids[i], quantities[i]
  local sku = redis.call('HMGET', KEYS[5 + i], 'status', 'price', 'available')
  if sku[1] ~= 'ACTIVE' then
    return refused({'product_not_found', product_id})
  end
  if tonumber(sku[3]) < tonumber(quantity) then
    short[#short + 1] = product_id
    short[#short + 1] = sku[3]
  end
  lines[i] = product_id .. ':' .. quantity .. ':' .. sku[2]
end
if #short > 1 then
  return refused(short)
end
if redis.call('XLEN', outbox_key) >= backlog_limit then
  count_turn()
  return {'backlogged'}
end

local own_lines = table.concat(lines, ',')
local request_id, ring, deadline_ms = '', 0, string.format('%.0f', now_ms + hold_ms)

-- The append comes first: should Redis refuse to write, nothing has changed.
if append then
  local number = string.format('%.0f', state[4] + 1)
  request_id = lane .. '.' .. epoch .. '.' .. number .. '.' .. nonce
  local held = (order.held == '' and '' or order.held .. ',') .. lane .. ':' .. built_epoch .. ':' .. deadline_ms
  local entry = {'kind', 'order', 'request_id', request_id, 'nonce', nonce, 'user_id', order.user_id,
    'user_coupon_id', order.user_coupon_id, 'decided_at_ms', string.format('%.0f', now_ms), 'held', held,
    'lines', (order.lines == '' and '' or order.lines .. ',') .. own_lines}
  for i, word in ipairs(with_names({})) do
    entry[#entry + 1] = i % 2 == 1 and 'name:' .. word or word
  end
  for i = 2 + 2 * products, #ARGV, 2 do
    entry[#entry + 1] = 'name:' .. ARGV[i]
    entry[#entry + 1] = ARGV[i + 1]
  end
  redis.call('XADD', outbox_key, epoch .. '-' .. number, unpack(entry))
  redis.call('HSET', lane_key, 'last_number', number)
end

count_turn()
for i = 1, products do
  redis.call('HINCRBY', KEYS[5 + i], 'available', '-' .. quantities[i])
end
redis.call('HSET', hold_key, 'state', 'held', 'request_id', request_id, 'lines', own_lines,
  'keep_ms', string.format('%.0f', keep_ms), 'order_lane', order.order_lane, 'deadline_ms', deadline_ms)
redis.call('PERSIST', hold_key)
redis.call('ZADD', holds_key, deadline_ms, nonce)

if append then
  ring = redis.call('SET', bell_key, '1', 'NX', 'PX', bell_ms) and 1 or 0
end
return with_names({'reserved', request_id, ring, built_epoch, deadline_ms, own_lines})
