-- Give coupons to users, in the order in which they ask: one ask, or those of all who wait at the same time.
--
-- Invariant: a coupon never goes to more users than its quantity, never twice to one user, and the winners are
-- numbered 1, 2, 3 … without a gap. The decisions, the winners' records and the outbox entries are one atomic step:
-- there is no instant at which one of them exists without the others. Each ask is answered as if it had come alone
-- after those before it.
--
-- KEYS
--   1  sc:{n}:lane    hash    the lane's state (open, epoch, replid, last_number)
--   2  sc:{n}:outbox  stream  decisions that are not yet in the ledger
--   3  sc:{n}:bell    string  armed while somebody has been told to drain this lane
--   4… coupon, winners  for each ask: sc:{n}:coupon:<id> (hash: version, status, total, issued, starts_at_ms,
--      ends_at_ms) and sc:{n}:coupon:<id>:winners (hash: user id -> "<sequence> <request id>"); behind them, for each
--      of the ask's limits, sc:{n}:turns:<who> (string: a moment, as take_turn.lua keeps it)
-- ARGV
--   1  lane           integer
--   2  epoch          integer       the epoch the caller believes in
--   3  bell time      milliseconds  how long an armed bell keeps others from ringing
--   4  backlog limit  entries       a longer outbox closes the gate
--   5… nonce, coupon id, user id, limits  for each ask, in order of arrival; the nonce is the caller's part of the
--      request id, and the same nonce asks for the same answer; limits are '<pace>,<ahead> …' (microseconds, as
--      take_turn.lua takes them), '' for none
-- RETURNS (the first that applies)
--   {'lane_not_ready'}       not opened, closed, or on a server that the guard has not approved
--   {'stale_epoch', epoch}   the caller's epoch is not this lane's
--   {ring, answer, …}        ring is 1 when the caller has to ring the bell; for each ask the first of these:
--     {'replayed', sequence, request id}    this very request was granted before; nothing changes or is counted
--     {'wait', milliseconds}                whoever asks has had all their turns; nothing changes or is counted
--     {'not_found'}                         an open lane holds every coupon, so this one does not exist
--     {'already_issued', sequence}          this user has the coupon from another request
--     {'inactive'} {'not_started'} {'ended'} {'sold_out'}
--     {'backlogged'}                        the ledger is too far behind to promise more
--     {'issued', sequence, request id}
-- COST O(number of asks and of their limits)

local asks = (#ARGV - 4) / 4
local coupon_keys, winners_keys, first_limits, limits_read, turns_keys, keys_named = {}, {}, {}, {}, {}, 3
for i = 1, asks do
  coupon_keys[i], winners_keys[i], keys_named = KEYS[keys_named + 1], KEYS[keys_named + 2], keys_named + 2
  local text = ARGV[4 + 4 * i]
  if not limits_read[text] then
    limits_read[text] = {}
    for pace, ahead in string.gmatch(text, '(%d+),(%d+)') do
      table.insert(limits_read[text], {pace = tonumber(pace), ahead = tonumber(ahead)})
    end
  end
  first_limits[i] = #turns_keys
  for _ = 1, #limits_read[text] do
    keys_named = keys_named + 1
    turns_keys[#turns_keys + 1] = KEYS[keys_named]
  end
end
if asks < 1 or asks % 1 ~= 0 or #KEYS ~= keys_named then
  return redis.error_reply('ERR issue_coupon takes 3 keys, 2 for each ask and 1 for each limit, 4 arguments and 4 for'
    .. ' each ask')
end
local lane_key, outbox_key, bell_key = KEYS[1], KEYS[2], KEYS[3]
local lane, epoch, bell_ms, backlog_limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if not (string.match(bell_ms, '^[1-9]%d*$') and backlog_limit) then
  return redis.error_reply('ERR issue_coupon takes a bell time of at least 1 millisecond and a backlog limit')
end

-- A server that lost its memory, or took over from another, has another replication id than the approved one. A replica
-- has its primary's, and may lag: it decides nothing, refusals included.
local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid', 'last_number')
local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if state[1] ~= '1' or state[3] ~= server then
  return {'lane_not_ready'}
end
if state[2] ~= epoch then
  return {'stale_epoch', state[2]}
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local decided_at_ms = string.format('%.0f', now_ms)
local last_number, backlog = tonumber(state[4]), redis.call('XLEN', outbox_key)

-- What is common to several asks is looked up once: a coupon's terms, and in one command who of those asking has it.
local coupons = {}
for i = 1, asks do
  local coupon_key = coupon_keys[i]
  local coupon = coupons[coupon_key]
  if not coupon then
    local terms = redis.call('HMGET', coupon_key, 'status', 'total', 'issued', 'starts_at_ms', 'ends_at_ms')
    coupon = {
      status = terms[1], total = tonumber(terms[2]), issued = tonumber(terms[3]),
      starts_at_ms = tonumber(terms[4]), ends_at_ms = tonumber(terms[5]),
      winners_key = winners_keys[i], asking = {}, won = {}, new_winners = {},
    }
    coupons[coupon_key] = coupon
  end
  coupon.asking[#coupon.asking + 1] = ARGV[3 + 4 * i]
end
for _, coupon in pairs(coupons) do
  local found = redis.call('HMGET', coupon.winners_key, unpack(coupon.asking))
  for i, user_id in ipairs(coupon.asking) do
    coupon.won[user_id] = found[i]
  end
end

-- Turns are taken as take_turn.lua does, which says how and why.
local now, moments, counted = time[1] * 1000000 + time[2], {}, {}
if #turns_keys > 0 then
  for i, moment in ipairs(redis.call('MGET', unpack(turns_keys))) do
    moments[turns_keys[i]] = tonumber(moment or 0) or 0
  end
end

local function milliseconds_to_wait(limits, first)
  local wait = 0
  for i, limit in ipairs(limits) do
    local moment = math.min(math.max(moments[turns_keys[first + i]], now), now + limit.ahead + limit.pace)
    moments[turns_keys[first + i]] = moment
    wait = math.max(wait, moment - limit.ahead - now)
  end
  if wait == 0 then
    for i, limit in ipairs(limits) do
      local key = turns_keys[first + i]
      moments[key], counted[key] = moments[key] + limit.pace, true
    end
  end
  return math.ceil(wait / 1000)
end

local function decide(coupon, user_id, nonce, limits, first_limit)
  local sequence, request_id = string.match(coupon.won[user_id] or '', '^(%d+) (.+)$')
  if sequence and string.sub(request_id, -#nonce - 1) == '.' .. nonce then
    return {'replayed', sequence, request_id}
  end
  local wait = #limits > 0 and milliseconds_to_wait(limits, first_limit) or 0
  if wait > 0 then
    return {'wait', wait}
  end
  if not coupon.status then
    return {'not_found'}
  end
  if sequence then
    return {'already_issued', sequence}
  end
  if coupon.status ~= 'ACTIVE' then
    return {'inactive'}
  end
  if coupon.starts_at_ms and now_ms < coupon.starts_at_ms then
    return {'not_started'}
  end
  if coupon.ends_at_ms and now_ms >= coupon.ends_at_ms then
    return {'ended'}
  end
  if coupon.issued >= coupon.total then
    return {'sold_out'}
  end
  if backlog >= backlog_limit then
    return {'backlogged'}
  end
  coupon.issued, last_number, backlog = coupon.issued + 1, last_number + 1, backlog + 1
  sequence = string.format('%.0f', coupon.issued)
  request_id = lane .. '.' .. epoch .. '.' .. string.format('%.0f', last_number) .. '.' .. nonce
  coupon.won[user_id] = sequence .. ' ' .. request_id
  coupon.new_winners[#coupon.new_winners + 1] = user_id
  coupon.new_winners[#coupon.new_winners + 1] = coupon.won[user_id]
  return {'issued', sequence, request_id}
end

local reply, entries = {0}, {}
for i = 1, asks do
  local nonce, coupon_id, user_id = ARGV[1 + 4 * i], ARGV[2 + 4 * i], ARGV[3 + 4 * i]
  local answer = decide(coupons[coupon_keys[i]], user_id, nonce, limits_read[ARGV[4 + 4 * i]], first_limits[i])
  reply[1 + i] = answer
  if answer[1] == 'issued' then
    entries[#entries + 1] = {epoch .. '-' .. string.format('%.0f', last_number),
      'kind', 'coupon_issue', 'request_id', answer[3], 'coupon_id', coupon_id, 'user_id', user_id,
      'sequence', answer[2], 'decided_at_ms', decided_at_ms}
  end
end

local function keep_turns()
  for key in pairs(counted) do
    redis.call('SET', key, string.format('%.0f', moments[key]), 'PX', math.ceil((moments[key] - now) / 1000))
  end
end

if #entries == 0 then
  keep_turns()
  return reply
end

-- The appends come first: an append is the only write that Redis could refuse (the entry's id must grow), if it does so
-- then the first of them, and a script that fails before its first write has changed nothing.
for _, entry in ipairs(entries) do
  redis.call('XADD', outbox_key, unpack(entry))
end
redis.call('HSET', lane_key, 'last_number', string.format('%.0f', last_number))
for coupon_key, coupon in pairs(coupons) do
  if #coupon.new_winners > 0 then
    redis.call('HSET', coupon_key, 'issued', string.format('%.0f', coupon.issued))
    redis.call('HSET', coupon.winners_key, unpack(coupon.new_winners))
  end
end
keep_turns()

-- Many winners share one ring: only the one who arms the bell tells a worker.
reply[1] = redis.call('SET', bell_key, '1', 'NX', 'PX', bell_ms) and 1 or 0
return reply
