-- Sends the requests of a plan (loadtests/benchmark/plans.py says what is in the file) and tells what came back.
--
-- wrk -s send.lua URL -- PLAN; the last line of the output begins with RESULT and is JSON: answers by status, errors,
-- and the latency in microseconds.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set('thread_number', #threads)
end

function init(arguments)
  local file = assert(io.open(arguments[1], 'rb'))
  local parts = {}
  -- LuaJIT's patterns know no NUL, except by its class.
  for part in (file:read('*a') .. '\0'):gmatch('(%Z*)%z') do
    parts[#parts + 1] = part
  end
  file:close()
  answers = {}
  if parts[1] == 'cycle' then
    local place, last = 1, #parts
    request = function()
      place = place < last and place + 1 or 2
      return parts[place]
    end
  else
    -- Threads must not send the same number: each has a million of its own.
    local number, before, after = tonumber(parts[2]) + (thread_number - 1) * 1000000 - 1, parts[3], parts[4]
    request = function()
      number = number + 1
      return before .. string.format('%.0f', number) .. after
    end
  end
end


function response(status)
  answers[status] = (answers[status] or 0) + 1
end

function done(summary, latency)
  local by_status = {}
  for _, thread in ipairs(threads) do
    for status, times in pairs(thread:get('answers')) do
      by_status[status] = (by_status[status] or 0) + times
    end
  end
  local statuses = {}
  for status, times in pairs(by_status) do
    statuses[#statuses + 1] = string.format('"%d": %d', status, times)
  end
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"seconds": %.6f, "answers": {%s}, "broken": %d, "p50_us": %.0f, "p99_us": %.0f, "longest_us": %.0f}\n',
    summary.duration / 1000000, table.concat(statuses, ', '), errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
