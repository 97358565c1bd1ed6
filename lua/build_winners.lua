-- Write some of a coupon's winners into a lane that is being built.
--
-- Invariant: only the rebuild that the lane is being built by may write.
--
-- KEYS
--   1 sc:{n}:lane                 hash  the lane's state
--   2 sc:{n}:coupon:<id>:winners  hash  user id -> "<sequence> <request id>"
-- ARGV
--   1 token    integer  the epoch of the build
--   2 winners  text     lines of "<user id> <sequence> <request id>", as Postgres puts them together: a million of them
--                       cost it and this script far less than they would cost a client that takes each in its hands
-- RETURNS (the first that applies)
--   {'superseded'}
--   {'built', count}
-- COST O(number of lines); the caller bounds it

if #KEYS ~= 2 or #ARGV ~= 2 then
  return redis.error_reply('ERR build_winners takes 2 keys and 2 arguments')
end
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then
  return {'superseded'}
end

local winners_key, fields, count = KEYS[2], {}, 0
for user_id, place in string.gmatch(ARGV[2], '(%d+) ([^\n]+)') do
  fields[#fields + 1] = user_id
  fields[#fields + 1] = place
  count = count + 1
  if #fields == 1000 then -- Lua's stack bounds how many arguments a call can have
    redis.call('HSET', winners_key, unpack(fields))
    fields = {}
  end
end
if #fields > 0 then
  redis.call('HSET', winners_key, unpack(fields))
end
return {'built', count}
