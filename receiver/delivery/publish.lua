-- Adds the events that are new to a topic's stream, exactly once each within the dedupe window.
--
-- KEYS[1]  the topic: the stream's key
-- ARGV     the window in seconds, then for every event its id (16 bytes) and the value of the field "data"
-- returns  how many entries were added
--
-- The ids that were added are kept in one set per window; the current set and the one before it are asked, so an id
-- is known for one to two windows. Redis' own clock picks the set: clocks of receivers may differ. When that clock was
-- set back, or a replica with a slower one has taken over, there may be a set of the window to come: it is asked, too.
-- The sets' names hold the topic in braces, which puts them into the slot of the stream.

local call, try = redis.call, redis.pcall
local topic, window = KEYS[1], tonumber(ARGV[1])
local bucket = math.floor(call('TIME')[1] / window)
local sets = '{' .. topic .. '}:seen:'
local current = sets .. bucket

-- Before anything is added: if marks cannot be made (an access list forbids it), a retry would add it all again.
call('SADD', current, '')
call('EXPIREAT', current, (bucket + 2) * window)

local ids, count = {}, 0
for i = 2, #ARGV, 2 do
  count = count + 1
  ids[count] = ARGV[i]
end
local seen = {}
for of = bucket - 1, bucket + 1 do
  if call('EXISTS', sets .. of) == 1 then
    for i, known in ipairs(call('SMISMEMBER', sets .. of, unpack(ids))) do
      if known == 1 then
        seen[ids[i]] = true
      end
    end
  end
end

local added, failure = {}, nil
for i = 1, count do
  local id = ids[i]
  if not seen[id] then
    local reply = try('XADD', topic, '*', 'data', ARGV[2 * i + 1])
    if reply.err then
      failure = reply
      break
    end
    seen[id] = true
    added[#added + 1] = id
  end
end

-- Only what is in the stream is marked as seen, also when an XADD failed half-way: marked and not added is lost.
if #added > 0 then
  call('SADD', current, unpack(added))
end
return failure or #added
