-- Looks for texts in some entries of a stream, newest first, so that only matching entries travel. Writes nothing.
--
-- KEYS[1]  the topic
-- ARGV     the newest and the oldest id of the range, the most entries to look at, the digits that a "mobile" must end
--          with ('' for no number), then texts; without texts every entry matches
-- returns  how many entries were looked at, the id of the last one ('' for none), then id and data of each match

local entries = redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local tail = ARGV[4]

local function data_of(fields)
    for i = 1, #fields, 2 do
        if fields[i] == 'data' then
            return fields[i + 1]
        end
    end
    return ''
end

local MOBILE = '"mobile":"'

local function has_number(data)
    local _, last = string.find(data, MOBILE, 1, true)
    if not last then
        return false
    end
    local digits = string.gsub(string.match(data, '^[^"]*', last + 1), '%D', '')
    return string.sub(digits, -#tail) == tail
end

local function matches(data)
    for i = 5, #ARGV do
        if string.find(data, ARGV[i], 1, true) then
            return true
        end
    end
    return #ARGV < 5 or tail ~= '' and has_number(data)
end

local found = {#entries, #entries > 0 and entries[#entries][1] or ''}
for _, entry in ipairs(entries) do
    local data = data_of(entry[2])
    if matches(data) then
        found[#found + 1] = entry[1]
        found[#found + 1] = data
    end
end
return found
