-- Count one call against the limits of whoever makes it, or say how long they have to wait.
--
-- Invariant: within any span of time nobody gets more turns than their limit's burst and what its rate has brought back
-- meanwhile; and a call that is refused by one limit counts against none, so whoever waits as told gets through.
--
-- A limit is kept as one moment (GCRA, ITU-T I.371): when the last turn would have been due at an even pace. It may lie
-- ahead of now by as much as the burst allows. A key that is not there stands for a moment long past.
--
-- KEYS
--   1… sc:{n}:turns:<who>  string  the moment of their last turn, microseconds since 1970
-- ARGV
--   1… pace, ahead  microseconds from one turn to the next; how far the moment may lie ahead of now
-- RETURNS (the first that applies)
--   {'wait', milliseconds}  until all of the limits would grant it
--   {'granted'}
-- COST O(number of limits)

if #KEYS < 1 or #ARGV ~= 2 * #KEYS then
  return redis.error_reply('ERR take_turn takes limits: for each its key, its pace and how far it may be ahead')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local moments = redis.call('MGET', unpack(KEYS))

local wait = 0
for i = 1, #KEYS do
  local pace, ahead = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local moment = math.max(tonumber(moments[i] or 0) or 0, now)
  -- A clock that was set back must not lock anybody out for longer than a limit can mean.
  moment = math.min(moment, now + ahead + pace)
  moments[i] = moment + pace
  wait = math.max(wait, moment - ahead - now)
end
if wait > 0 then
  return {'wait', math.ceil(wait / 1000)}
end
for i = 1, #KEYS do
  -- Once the moment is past, the key says nothing any more.
  redis.call('SET', KEYS[i], string.format('%.0f', moments[i]), 'PX', math.ceil((moments[i] - now) / 1000))
end
return {'granted'}
