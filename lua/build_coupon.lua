-- Write a coupon as the ledger knows it, without its winners, into a lane that is being built.
--
-- Invariant: only the rebuild that the lane is being built by may write.
--
-- KEYS
--   1 sc:{n}:lane                 hash  the lane's state
--   2 sc:{n}:coupon:<id>          hash  version, status, total, issued, starts_at_ms, ends_at_ms
--   3 sc:{n}:coupon:<id>:winners  hash  user id -> "<sequence> <request id>"
-- ARGV
--   1 token       integer       the epoch of the build
--   2 version     integer
--   3 status      ACTIVE | INACTIVE
--   4 total       units
--   5 starts at   milliseconds since 1970, or '' for no start
--   6 ends at     milliseconds since 1970, or '' for no end
--   7 issued      integer       the last place in line
-- RETURNS (the first that applies)
--   {'superseded'}
--   {'built'}
-- COST O(1): the winners of before are freed in the background

if #KEYS ~= 3 or #ARGV ~= 7 then
  return redis.error_reply('ERR build_coupon takes 3 keys and 7 arguments')
end
local token, version, status, total, starts_at_ms, ends_at_ms, issued = unpack(ARGV)
if redis.call('HGET', KEYS[1], 'building') ~= token then
  return {'superseded'}
end
redis.call('UNLINK', KEYS[3])
redis.call('HSET', KEYS[2], 'version', version, 'status', status, 'total', total,
  'starts_at_ms', starts_at_ms, 'ends_at_ms', ends_at_ms, 'issued', issued)
return {'built'}
