-- Looks for texts in some entries of a stream, newest first, so that only matching entries travel. Writes nothing.
--
-- KEYS[1]  the topic
-- ARGV     the newest and the oldest id of the range, the most entries to look at, the digits that a "mobile" must end
--          with ('' for no number), then texts; without texts every entry matches
-- returns  how many entries were looked at, the id of the last one ('' for none), then id and data of each match

local find, sub, gsub = string.find, string.sub, string.gsub
local entries = redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local tail = ARGV[4]
local texts = {unpack(ARGV, 5)}

local function data_of(fields)
    for i = 1, #fields, 2 do
        if fields[i] == 'data' then
            return fields[i + 1]
        end
    end
    return ''
end

-- Without its quote in front: find looks for the first character first, and an entry has some sixty quotes.
local MOBILE = 'mobile":"'

local function has_number(data)
    local _, last = find(data, MOBILE, 1, true)
    local stop = last and find(data, '"', last + 1, true)
    if not stop then
        return false
    end
    local number = sub(data, last + 1, stop - 1)
    if find(number, '[ .()%-]') then
        number = gsub(number, '%D', '')
    end
    return sub(number, -#tail) == tail
end

local function has_text(data)
    for _, text in ipairs(texts) do
        if find(data, text, 1, true) then
            return true
        end
    end
    return false
end

local found = {#entries, #entries > 0 and entries[#entries][1] or ''}
for _, entry in ipairs(entries) do
    local data = data_of(entry[2])
    if #texts == 0 or has_text(data) or tail ~= '' and has_number(data) then
        found[#found + 1] = entry[1]
        found[#found + 1] = data
    end
end
return found
