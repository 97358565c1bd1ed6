-- Make the ledger's description of a coupon the one the gate decides by, at once.
--
-- Invariant: an older version never replaces a newer one, and what was issued already is never touched.
--
-- KEYS
--   1 sc:{n}:lane         hash  the lane's state
--   2 sc:{n}:coupon:<id>  hash  version, status, total, issued, starts_at_ms, ends_at_ms
-- ARGV
--   1 epoch         integer
--   2 version       integer       grows with every change in the ledger
--   3 status        ACTIVE | INACTIVE
--   4 total         units
--   5 starts at     milliseconds since 1970, or '' for no start
--   6 ends at       milliseconds since 1970, or '' for no end
-- RETURNS (the first that applies)
--   {'lane_not_ready'}
--   {'stale_epoch', epoch}
--   {'unchanged', issued, epoch}   the gate knows this version or a newer one
--   {'published', issued, epoch}
-- COST O(1)

if #KEYS ~= 2 or #ARGV ~= 6 then
  return redis.error_reply('ERR publish_coupon takes 2 keys and 6 arguments')
end
local lane_key, coupon_key = KEYS[1], KEYS[2]
local epoch, version, status, total, starts_at_ms, ends_at_ms = unpack(ARGV)

local state = redis.call('HMGET', lane_key, 'open', 'epoch', 'replid')
local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)')
if state[1] ~= '1' or state[3] ~= server then
  return {'lane_not_ready'}
end
if state[2] ~= epoch then
  return {'stale_epoch', state[2]}
end

local known = redis.call('HMGET', coupon_key, 'version', 'issued')
if known[1] and tonumber(known[1]) >= tonumber(version) then
  return {'unchanged', known[2], epoch}
end

redis.call('HSET', coupon_key, 'version', version, 'status', status, 'total', total,
  'starts_at_ms', starts_at_ms, 'ends_at_ms', ends_at_ms)
redis.call('HSETNX', coupon_key, 'issued', '0')
return {'published', known[2] or '0', epoch}
