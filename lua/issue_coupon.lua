-- Give one coupon to one user, in the order in which the calls arrive.
--
-- Invariant: a coupon never goes to more users than its quantity, never twice to one user, and the winners are
-- numbered 1, 2, 3 … without a gap. The decision, the winner's record and the outbox entry are one atomic step:
-- there is no instant at which one of them exists without the others.
--
-- KEYS
--   1 sc:{n}:lane                hash    the lane's state (open, epoch, replid, last_number)
--   2 sc:{n}:outbox              stream  decisions that are not yet in the ledger
--   3 sc:{n}:bell                string  armed while somebody has been told to drain this lane
--   4 sc:{n}:coupon:<id>         hash    version, status, total, issued, starts_at_ms, ends_at_ms
--   5 sc:{n}:coupon:<id>:winners hash    user id -> "<sequence> <request id>"
-- ARGV
--   1 lane           integer
--   2 epoch          integer       the epoch the caller believes in
--   3 nonce          text          the caller's part of the request id; the same nonce asks for the same answer
--   4 coupon id      integer
--   5 user id        integer
--   6 bell time      milliseconds  how long an armed bell keeps others from ringing
--   7 backlog limit  entries       a longer outbox closes the gate
-- RETURNS (the first that applies)
--   {'lane_not_ready'}                    not opened, closed, or on a server that the guard has not approved
--   {'stale_epoch', epoch}                the caller's epoch is not this lane's
--   {'not_found'}                         an open lane holds every coupon, so this one does not exist
--   {'replayed', sequence, request id}    this very request was granted before; nothing changes
--   {'already_issued', sequence}          this user has the coupon from another request
--   {'inactive'} {'not_started'} {'ended'} {'sold_out'}
--   {'backlogged'}                        the ledger is too far behind to promise more
--   {'issued', sequence, request id, ring}  ring is 1 when the caller has to ring the bell
-- COST O(1)

if #KEYS ~= 5 or #ARGV ~= 7 then
  return redis.error_reply('ERR issue_coupon takes 5 keys and 7 arguments')
end
local lane_key, outbox_key, bell_key, coupon_key, winners_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lane, epoch, nonce, coupon_id, user_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local bell_ms, backlog_limit = ARGV[6], tonumber(ARGV[7])
if not string.match(bell_ms, '^[1-9]%d*$') then
  return redis.error_reply('ERR issue_coupon takes a bell time of at least 1 millisecond')
end

-- A server that lost its memory, or took over from another, has another replication id than the approved one.
local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid', 'last_number')
if state[1] ~= '1' or state[3] ~= string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') then
  return {'lane_not_ready'}
end
if state[2] ~= epoch then
  return {'stale_epoch', state[2]}
end

local coupon = redis.call('HMGET', coupon_key, 'status', 'total', 'issued', 'starts_at_ms', 'ends_at_ms')
local status, total, issued = coupon[1], tonumber(coupon[2]), tonumber(coupon[3])
local starts_at_ms, ends_at_ms = tonumber(coupon[4]), tonumber(coupon[5])
if not status then
  return {'not_found'}
end

local won = redis.call('HGET', winners_key, user_id)
if won then
  local sequence, request_id = string.match(won, '^(%d+) (.+)$')
  if string.sub(request_id, -#nonce - 1) == '.' .. nonce then
    return {'replayed', sequence, request_id}
  end
  return {'already_issued', sequence}
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if status ~= 'ACTIVE' then
  return {'inactive'}
end
if starts_at_ms and now_ms < starts_at_ms then
  return {'not_started'}
end
if ends_at_ms and now_ms >= ends_at_ms then
  return {'ended'}
end
if issued >= total then
  return {'sold_out'}
end
if redis.call('XLEN', outbox_key) >= backlog_limit then
  return {'backlogged'}
end

local sequence = string.format('%.0f', issued + 1)
local number = string.format('%.0f', state[4] + 1)
local request_id = lane .. '.' .. epoch .. '.' .. number .. '.' .. nonce

-- The append comes first: it is the only write that Redis could refuse (the entry's id must grow), and a script
-- that fails before its first write has changed nothing.
redis.call('XADD', outbox_key, epoch .. '-' .. number,
  'kind', 'coupon_issue', 'request_id', request_id, 'coupon_id', coupon_id, 'user_id', user_id,
  'sequence', sequence, 'decided_at_ms', string.format('%.0f', now_ms))
redis.call('HSET', lane_key, 'last_number', number)
redis.call('HSET', coupon_key, 'issued', sequence)
redis.call('HSET', winners_key, user_id, sequence .. ' ' .. request_id)

-- Many winners share one ring: only the one who arms the bell tells a worker.
local ring = redis.call('SET', bell_key, '1', 'NX', 'PX', bell_ms) and 1 or 0
return {'issued', sequence, request_id, ring}
