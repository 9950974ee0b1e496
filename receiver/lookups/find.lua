-- Returns one page of reports, newest first, equal times by descending message_id. Writes nothing.
-- ARGV: start, end (ms, inclusive), offset, limit, statuses ("012"), mobile as in the query or '', message_id or '',
-- sign_id, '1' if it includes reports without a signature of their own, the retention in ms (older reports are not
-- returned, although their memory may not be free yet), and the msgpack array of the {mobile, country} that the mobile
-- may mean (phone_numbers.py).
-- Returns id, record, id, record, ...

local START, END = string.format('%.0f', math.max(tonumber(ARGV[1]), now() - tonumber(ARGV[10]))), ARGV[2]
local OFFSET, LIMIT = tonumber(ARGV[3]), tonumber(ARGV[4])
local STATUSES, PHONE, ID, SIGN_ID, WITH_DEFAULT = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local READINGS = cmsgpack.unpack(ARGV[11])
local ANY_COUNTRY = -1
-- Each country adds a window per signature and status, and skipping is quadratic in the number of windows.
local MAX_COUNTRIES = 8

local signs = {}
if SIGN_ID ~= '' then
    signs[1] = sign_number(SIGN_ID)
end
if WITH_DEFAULT == '1' then
    signs[#signs + 1] = 0
end

local function has_number(record)
    if PHONE == '' or record.by_spelling then
        return PHONE == '' or PHONE == record[MOBILE]
    end
    local country = country_of(record[NATION], record[MOBILE])
    for _, reading in ipairs(READINGS) do
        if reading[1] == record[MOBILE] and (reading[2] == country or reading[2] == ANY_COUNTRY) then
            return true
        end
    end
    return false
end

local function fits(record)
    local time, signed = time_of(record), false
    for _, sign in ipairs(signs) do
        signed = signed or sign == record[SIGN]
    end
    return signed and time >= tonumber(START) and time <= tonumber(END)
        and string.find(STATUSES, record[STATUS], 1, true)
        and has_number(record)
end

-- The page of the few reports that a message_id has, or a message_id and a number.
local function of_ids(ids)
    local fitting = {}
    for _, id in ipairs(ids) do
        local stored = redis.call('HGET', bucket('r', id), id)
        local record = stored and unpacked(stored)
        if record and fits(record) then
            fitting[#fitting + 1] = {time_of(record), id, stored}
        end
    end
    table.sort(fitting, function(a, b)
        if a[1] ~= b[1] then
            return a[1] > b[1]
        end
        return order(a[2], b[2]) > 0
    end)
    local found = {}
    for i = OFFSET + 1, math.min(OFFSET + LIMIT, #fitting) do
        found[#found + 1] = fitting[i][2]
        found[#found + 1] = fitting[i][3]
    end
    return found
end

-- A window is a run of ranks in a sorted set, newest first: `from` is the first rank, `size` the number of ranks.
local function by_time(sign, status)
    local key = index_key(sign, status)
    return {
        key = key, strip = 1, id = 1,
        from = redis.call('ZCOUNT', key, '(' .. END, '+inf'),
        size = redis.call('ZCOUNT', key, START, END),
    }
end

local function in_order(key, prefix, fields)
    local low, high = prefix .. sortable(tonumber(START)), prefix .. sortable(tonumber(END) + 1)
    fields.key, fields.strip, fields.id = key, #prefix + 1, 7
    fields.from = redis.call('ZLEXCOUNT', key, '[' .. high, '+')
    fields.size = redis.call('ZLEXCOUNT', key, '[' .. low, '(' .. high)
    return fields
end

local function by_number(mobile, country, sign, status)
    local fields = {mobile = mobile, country = country, sign = sign, status = status}
    return in_order(bucket('n', mobile), number_prefix(mobile, country, sign, status), fields)
end

local function by_spelling(sign, status)
    local fields = {mobile = PHONE, sign = sign, status = status}  -- whatever its country
    return in_order(bucket('m', PHONE), spelling_prefix(PHONE, sign, status), fields)
end

-- The countries of a national number, the lowest codes first. One look-up by range finds the next country.
local function countries(mobile)
    local key, head = bucket('n', mobile), struct.pack('>Bc0', #mobile, mobile)
    local found, low = {}, 0
    while #found < MAX_COUNTRIES do
        local from, to = '[' .. head .. struct.pack('>I2', low), '(' .. head .. '\255\255'
        local member = redis.call('ZRANGEBYLEX', key, from, to, 'LIMIT', 0, 1)[1]
        if not member then
            break
        end
        local country = struct.unpack('>I2', member, #head + 1)
        found[#found + 1] = country
        low = country + 1
    end
    return found
end

-- The reports that share the message_id, and the one that does not.
local function by_request(sign, status)
    return in_order(bucket('q', ID), request_window(ID, sign, status), {})
end

local function alone(sign, status)
    local key = index_key(sign, status)
    local record = record_of(ID)
    local here = record and record[SIGN] == sign and record[STATUS] == status and fits(record)
    return {key = key, strip = 1, id = 1, from = here and redis.call('ZREVRANK', key, ID), size = here and 1 or 0}
end

-- Each id that a report with this message_id and this number may have.
local function ids_of_number()
    local ids, seen = {ID}, {}
    local function note(id)
        if not seen[id] then
            seen[id] = true
            ids[#ids + 1] = id
        end
    end
    for _, reading in ipairs(READINGS) do
        local id = ID .. RECIPIENT .. reading[1]
        note(id)
        for _, country in ipairs(reading[3]) do
            note(id .. RECIPIENT .. country)
        end
    end
    return ids
end

local function all_windows(sign, status)
    if ID ~= '' then
        return {by_request(sign, status), alone(sign, status)}
    end
    if PHONE == '' then
        return {by_time(sign, status)}
    end
    local all = {by_spelling(sign, status)}
    for _, reading in ipairs(READINGS) do
        for _, country in ipairs(reading[3]) do
            all[#all + 1] = by_number(reading[1], country, sign, status)
        end
    end
    return all
end

local function entries(window, first, last)
    local found = redis.call('ZREVRANGE', window.key, window.from + first - 1, window.from + last - 1, 'WITHSCORES')
    local list = {}
    for i = 1, #found, 2 do
        local tail = string.sub(found[i], window.strip)
        local time = window.id == 1 and tonumber(found[i + 1]) or struct.unpack('>I6', tail)
        list[#list + 1] = {time, tail, string.sub(tail, window.id)}
    end
    return list
end

local function precedes(a, b)
    if a[1] ~= b[1] then
        return a[1] > b[1]
    end
    return order(a[3], b[3]) > 0
end

local function drop(windows, i, count)
    windows[i].from, windows[i].size = windows[i].from + count, windows[i].size - count
    if windows[i].size == 0 then
        table.remove(windows, i)
    end
end

-- Skips the first `left` entries of all k windows together, in O(k^2 log left) look-ups by rank: with a step of
-- left / k, the window whose step-th entry comes first can drop these entries, because at most k * step entries precede
-- that one.
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

-- Whether an entry of the index matches its record. During an upgrade it may not: an older version moves a record
-- without removing the entry under :n, which it does not know.
local function is_here(stored, window, entry)
    if not stored or not window.mobile then
        return stored
    end
    local record = unpacked(stored)
    local country = not record.by_spelling and country_of(record[NATION], record[MOBILE]) or nil
    return record[MOBILE] == window.mobile and country == window.country and record[SIGN] == window.sign
        and record[STATUS] == window.status and sortable(time_of(record)) == string.sub(entry[2], 1, 6)
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
        local entry = lists[first][heads[first]]
        local id = entry[3]
        local stored = redis.call('HGET', bucket('r', id), id)
        heads[first] = heads[first] + 1
        if is_here(stored, windows[first], entry) then
            found[#found + 1] = id
            found[#found + 1] = stored
        end
    end
    return found
end

if ID ~= '' and not shares_ids() then
    return of_ids({ID})
end
for _, reading in ipairs(READINGS) do
    reading[3] = reading[2] == ANY_COUNTRY and countries(reading[1]) or {reading[2]}
end
if ID ~= '' and PHONE ~= '' then
    return of_ids(ids_of_number())
end
local windows, total = {}, 0
for _, sign in ipairs(signs) do
    for status in string.gmatch(STATUSES, '%d') do
        for _, window in ipairs(all_windows(sign, tonumber(status))) do
            if window.size > 0 then
                windows[#windows + 1] = window
                total = total + window.size
            end
        end
    end
end
if OFFSET >= total then
    return {}
end
skip(windows, OFFSET)
return page(windows)
