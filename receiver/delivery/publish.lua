-- Adds the events that are new to a topic's stream, exactly once each within the dedupe window.
--
-- KEYS[1]  the topic: the stream's key
-- ARGV     the window in seconds, then for every event its id (16 bytes) and the value of the field "data"
-- returns  how many entries were added
--
-- One set per window holds the ids that were added. The current set and the one before it are checked, so an id is
-- known for one to two windows. Redis' own clock picks the set: the clocks of receivers may differ. After that clock
-- was set back, or a replica with a slower clock took over, a set of the coming window may exist: it is checked too.
-- The names of the sets contain the topic in braces, which puts them into the slot of the stream.

local call, try = redis.call, redis.pcall
local topic, window = KEYS[1], tonumber(ARGV[1])
local bucket = math.floor(call('TIME')[1] / window)
local sets = '{' .. topic .. '}:seen:'
local current = sets .. bucket

-- First of all: if ids cannot be recorded (an access list forbids it), a retry would add every event again.
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

-- Record only the ids that are in the stream, also after a failed XADD: a recorded event that was not added is lost.
if #added > 0 then
  call('SADD', current, unpack(added))
end
return failure or #added
