-- Trims a topic's stream by age, but not past an entry that a consumer group still needs, unless the hard cap is reached.
--
-- KEYS[1]  the topic
-- KEYS[2]  the lease of whoever trims it, in the cluster slot of the topic
-- ARGV     the milliseconds for which entries are kept, the hard cap of entries, the most entries to remove in this
--          call, the id of the caller, and the milliseconds for which the lease keeps other callers from trimming
-- returns  how many entries were removed by age or after every group had acknowledged them, and how many unread ones at
--          the cap; 0 and 0 when another caller holds the lease
--
-- The age is measured by Redis' own clock, which made the ids of the entries: the clock of a receiver may be days off.

local topic, lease = KEYS[1], KEYS[2]
local retention, most, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local me, lease_ms = ARGV[4], ARGV[5]
if redis.call('EXISTS', topic) == 0 then
  return {0, 0}
end
local groups = redis.call('XINFO', 'GROUPS', topic)

local holder = redis.call('GET', lease)
if holder and holder ~= me then
  return {0, 0}
end
-- A Redis that is out of memory refuses this; go on, since trimming frees memory.
redis.pcall('SET', lease, me, 'PX', lease_ms)

local function parse(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return {tonumber(ms), tonumber(seq)}
end

local function earlier(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end

local function text(id)
  return string.format('%.0f-%.0f', id[1], id[2])
end

-- The id of the oldest entry that some group has not acknowledged or not read; nil without groups.
local needed
for _, fields in ipairs(groups) do
  local group = {}
  for i = 1, #fields, 2 do
    group[fields[i]] = fields[i + 1]
  end
  local first = parse(group['last-delivered-id'])
  first[2] = first[2] + 1
  if group['pending'] > 0 then
    local pending = parse(redis.call('XPENDING', topic, group['name'])[2])
    if earlier(pending, first) then -- false for a group that was set back to read again
      first = pending
    end
  end
  if not needed or earlier(first, needed) then
    needed = first
  end
end

local now = redis.call('TIME')
local from = {math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - retention), 0}
if needed and earlier(needed, from) then
  from = needed
end
local aged = redis.call('XTRIM', topic, 'MINID', '~', text(from), 'LIMIT', limit)

local length = redis.call('XLEN', topic)
local over = length - most
if over <= 0 then
  return {aged, 0}
end
if not needed then
  return {aged + redis.call('XTRIM', topic, 'MAXLEN', '~', most, 'LIMIT', limit), 0}
end
local step = math.min(limit, over)
local acknowledged = redis.call('XTRIM', topic, 'MINID', '~', text(needed), 'LIMIT', step)
if acknowledged > 0 then
  return {aged + acknowledged, 0}
end
-- "~" removes whole nodes (100 entries at most), and no more entries than its limit. When it removes nothing, the first
-- node has more entries than are too many, or "needed" is in it. Either way fewer entries than a node has go one by one.
acknowledged = #redis.call('XRANGE', topic, '-', '(' .. text(needed), 'COUNT', step)
redis.call('XTRIM', topic, 'MAXLEN', '=', length - acknowledged)
if acknowledged == step then
  return {aged + acknowledged, 0}
end
return {aged + acknowledged, redis.call('XTRIM', topic, 'MAXLEN', '~', most, 'LIMIT', limit)}
