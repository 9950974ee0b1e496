-- Adds the events that are new to a topic's stream, exactly once each within the dedupe window.
--
-- KEYS[1]  the topic: the stream's key
-- KEYS[2]  the set of the ids that were added in the window before the current one
-- KEYS[3]  that of the current window
-- KEYS[4]  that of the coming window
-- ARGV     the window in seconds, the number of the window that the caller takes for the current one, then the ids of
--          all events (16 bytes each), then in the same order the values of the field "data"
-- returns  how many entries were added; or a table with the number of the current window, after doing nothing, if the
--          caller took another one for it: it has to call again with the keys of that window
--
-- The sets of the current window and of the one before are checked, so an id is known for one to two windows. Redis' own
-- clock decides which window is the current one: the clocks of receivers may differ. After that clock was set back, or a
-- replica with a slower clock took over, a set of the coming window may exist: it is checked too.
--
-- All keys are declared. A Redis Cluster that moves a slot refuses a call for which it does not have all of them. It
-- cannot know of others, and would look ids up in a set that is still elsewhere.

local call, try = redis.call, redis.pcall
local topic, current = KEYS[1], KEYS[3]
local window, bucket = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = math.floor(call('TIME')[1] / window)
if now ~= bucket then
  return {now}
end

-- First of all: without the right to mark ids a retry would add its events again, and without the right to unmark them a
-- failed XADD would lose its event. The first write has to be one that Redis refuses when it is out of memory: after
-- any other write of a script it lets all pass.
local NONE, NOT_THERE = '', '-'
local new = call('SADD', current, NONE) == 1
call('SREM', current, NOT_THERE)
if new then
  local reply = try('EXPIREAT', current, (bucket + 2) * window)
  if type(reply) == 'table' then
    call('SREM', current, NONE)
    return reply
  end
end

local FIRST, count = 3, (#ARGV - 2) / 2
local ids, values, first, last, offset = ARGV, ARGV, FIRST, FIRST + count - 1, count

local known
for i = 2, 4 do
  if i == 3 or call('EXISTS', KEYS[i]) == 1 then
    local replies = call('SMISMEMBER', KEYS[i], unpack(ids, first, last))
    for j = 1, count do
      if replies[j] == 1 then
        known = known or {}
        known[ids[first + j - 1]] = true
      end
    end
  end
end

-- Mark all ids with one command. Only when some were known, or one is twice in this call, go through them one by one.
if known or call('SADD', current, unpack(ids, first, last)) < count then
  known, ids, values = known or {}, {}, {}
  for i = first, last do
    local id = ARGV[i]
    if not known[id] then
      known[id] = true
      ids[#ids + 1], values[#values + 1] = id, ARGV[i + count]
    end
  end
  if #ids == 0 then
    -- Another connection has added them. Write something, so that WAIT on this one waits for that as well.
    call('EXPIREAT', current, (bucket + 2) * window)
    return 0
  end
  first, last, offset = 1, #ids, 0
  call('SADD', current, unpack(ids))
end

for i = first, last do
  local reply = try('XADD', topic, '*', 'data', values[i + offset])
  if reply.err then
    -- An id that stays marked without its entry is a lost event: the next attempt would take it for a duplicate.
    call('SREM', current, unpack(ids, i, last))
    return reply
  end
end
return last - first + 1
