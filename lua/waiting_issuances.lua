-- List a page of the outbox, of each entry no more than which coupon it gives and the place in line. Changes nothing.
--
-- Invariant: none to protect; entries never change, and one leaves only after the ledger has committed it.
--
-- KEYS
--   1 sc:{n}:outbox  stream  decisions that are not yet in the ledger
-- ARGV
--   1 after  entry id  where the page before ended, '-' for the first one
--   2 limit  entries
-- RETURNS
--   {entry id, coupon id, sequence, …}
--   coupon id and sequence are '' for an order, and for what cannot be read as whole numbers
-- COST O(log n + limit)

if #KEYS ~= 1 or #ARGV ~= 2 then
  return redis.error_reply('ERR waiting_issuances takes 1 key and 2 arguments')
end
local after = ARGV[1] == '-' and '-' or '(' .. ARGV[1]

local page = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', ARGV[2])) do
  local fields, coupon_id, sequence = entry[2], '', ''
  for i = 1, #fields, 2 do
    if fields[i] == 'coupon_id' then
      coupon_id = string.match(fields[i + 1], '^%d+$') or ''
    elseif fields[i] == 'sequence' then
      sequence = string.match(fields[i + 1], '^%d+$') or ''
    end
  end
  page[#page + 1] = entry[1]
  page[#page + 1] = coupon_id
  page[#page + 1] = sequence
end
return page
