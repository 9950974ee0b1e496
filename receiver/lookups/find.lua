-- One page of reports, newest first, equal times by message_id downwards. No-write.
-- ARGV: start, end (ms, inclusive), offset, limit, statuses ("012"), mobile or '', message_id or '',
-- sign_id, '1' if reports without a signature of their own belong to it, and for how many ms reports are kept:
-- older ones are not found, although their memory may not be free yet.
-- Returns id, record, id, record, ...

local START, END = string.format('%.0f', math.max(tonumber(ARGV[1]), now() - tonumber(ARGV[10]))), ARGV[2]
local OFFSET, LIMIT = tonumber(ARGV[3]), tonumber(ARGV[4])
local STATUSES, PHONE, ID, SIGN_ID, WITH_DEFAULT = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local signs = {}
if SIGN_ID ~= '' then
    signs[1] = sign_number(SIGN_ID)
end
if WITH_DEFAULT == '1' then
    signs[#signs + 1] = 0
end

local function one()
    local stored = redis.call('HGET', bucket('r', ID), ID)
    if not stored or OFFSET > 0 then
        return {}
    end
    local record = cmsgpack.unpack(stored)
    local time, signed = time_of(record), false
    for _, sign in ipairs(signs) do
        signed = signed or sign == record[SIGN]
    end
    local fits = signed and time >= tonumber(START) and time <= tonumber(END)
        and string.find(STATUSES, record[STATUS], 1, true)
        and (PHONE == '' or PHONE == record[MOBILE])
    return fits and {ID, stored} or {}
end

-- A window is a run of ranks in a sorted set, newest first: `from` the first rank, `size` how many.
local function by_time(sign, status)
    local key = index_key(sign, status)
    return {
        key = key, strip = 1, id = 1,
        from = redis.call('ZCOUNT', key, '(' .. END, '+inf'),
        size = redis.call('ZCOUNT', key, START, END),
    }
end

local function by_mobile(sign, status)
    local key, prefix = bucket('m', PHONE), mobile_prefix(PHONE, sign, status)
    local low, high = prefix .. sortable(tonumber(START)), prefix .. sortable(tonumber(END) + 1)
    return {
        key = key, strip = #prefix + 1, id = 7,
        from = redis.call('ZLEXCOUNT', key, '[' .. high, '+'),
        size = redis.call('ZLEXCOUNT', key, '[' .. low, '(' .. high),
    }
end

local function entries(window, first, last)
    local found = redis.call('ZREVRANGE', window.key, window.from + first - 1, window.from + last - 1, 'WITHSCORES')
    local list = {}
    for i = 1, #found, 2 do
        local tail = string.sub(found[i], window.strip)
        list[#list + 1] = {tonumber(found[i + 1]), tail, string.sub(tail, window.id)}
    end
    return list
end

local function precedes(a, b)
    if a[1] ~= b[1] then
        return a[1] > b[1]
    end
    return order(a[2], b[2]) > 0
end

local function drop(windows, i, count)
    windows[i].from, windows[i].size = windows[i].from + count, windows[i].size - count
    if windows[i].size == 0 then
        table.remove(windows, i)
    end
end

-- Moves the windows past their first `left` entries together, in O(k^2 log left) look-ups by rank: with a
-- step of left / k, the window whose step-th entry comes first can lose all of them, because at most
-- k * step entries come before that one.
local function skip(windows, left)
    while left > 0 and #windows > 0 do
        local step = math.max(1, math.floor(left / #windows))
        local first, count, earliest
        for i, window in ipairs(windows) do
            local reach = math.min(step, window.size)
            local entry = entries(window, reach, reach)[1]
            if not first or precedes(entry, earliest) then
                first, count, earliest = i, reach, entry
            end
        end
        drop(windows, first, count)
        left = left - count
    end
end

local function page(windows)
    local lists, heads, found = {}, {}, {}
    for i, window in ipairs(windows) do
        lists[i], heads[i] = entries(window, 1, math.min(LIMIT, window.size)), 1
    end
    while #found < 2 * LIMIT do
        local first
        for i, list in ipairs(lists) do
            local entry = list[heads[i]]
            if entry and (not first or precedes(entry, lists[first][heads[first]])) then
                first = i
            end
        end
        if not first then
            break
        end
        local id = lists[first][heads[first]][3]
        heads[first] = heads[first] + 1
        found[#found + 1] = id
        found[#found + 1] = redis.call('HGET', bucket('r', id), id)
    end
    return found
end

if ID ~= '' then
    return one()
end
local windows, total = {}, 0
for _, sign in ipairs(signs) do
    for status in string.gmatch(STATUSES, '%d') do
        local window = (PHONE == '' and by_time or by_mobile)(sign, tonumber(status))
        if window.size > 0 then
            windows[#windows + 1] = window
            total = total + window.size
        end
    end
end
if OFFSET >= total then
    return {}
end
skip(windows, OFFSET)
return page(windows)
