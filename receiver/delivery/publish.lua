-- Adds the events that are new to a topic's stream, exactly once each within the dedupe window.
--
-- KEYS[1]  the topic: the stream's key
-- ARGV     the window in seconds, then for every event its id (16 bytes) and the value of the field "data"
-- returns  how many entries were added
--
-- The ids that were added are kept in one set per window; the current set and the one before it are asked, so an id
-- is known for one to two windows. Redis' own clock picks the set: clocks of receivers may differ. The sets' names
-- hold the topic in braces, which puts them into the slot of the stream.

local topic, window = KEYS[1], tonumber(ARGV[1])
local bucket = math.floor(redis.call('TIME')[1] / window)
local sets = '{' .. topic .. '}:seen:'
local current = sets .. bucket

local ids, count = {}, 0
for i = 2, #ARGV, 2 do
  count = count + 1
  ids[count] = ARGV[i]
end
local now = redis.call('SMISMEMBER', current, unpack(ids))
local before = redis.call('SMISMEMBER', sets .. (bucket - 1), unpack(ids))

local pcall_, added, in_this_call, failure = redis.pcall, {}, {}, nil
for i = 1, count do
  local id = ids[i]
  if now[i] == 0 and before[i] == 0 and not in_this_call[id] then
    local reply = pcall_('XADD', topic, '*', 'data', ARGV[2 * i + 1])
    if reply.err then
      failure = reply
      break
    end
    in_this_call[id] = true
    added[#added + 1] = id
  end
end

-- Only what is in the stream is marked as seen, also when an XADD failed half-way: marked and not added is lost.
if #added > 0 then
  redis.call('SADD', current, unpack(added))
  redis.call('EXPIREAT', current, (bucket + 2) * window)
end
return failure or #added
