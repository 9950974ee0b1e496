-- The record of a report in Redis, and its indexes. Prepended to the other scripts of this folder.
--
-- KEYS[1] is the hash tag of the project, "{lookups:<project_id>}". Every other key begins with it, so all keys of a
-- project are in one cluster slot.

local PROJECT = KEYS[1]

-- A record is a msgpack array of ten. OWNED has a bit for each field that a registration has set. A report does not
-- change these fields, so both orders of arrival end in the same record.
local OWNED, STATUS, DELIVER, DESC, SIGN, FEE, EXTEND, SUBMIT, NATION, MOBILE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- NATION and MOBILE are one value, the number: canonical (phone_numbers.py) and owned together.
local NUMBER_OWNED = bit.bor(bit.lshift(1, NATION), bit.lshift(1, MOBILE))
-- The long header of an array of ten. Older versions indexed numbers by their spelling, under :m instead of :n. They
-- write the short header, even over a record of ours, so the header tells where a record is indexed.
local ARRAY_OF_TEN, BY_SPELLING = '\220\0\10', 154

-- Redis' clock, in milliseconds. The clock of a caller may be days off, and callers differ.
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Compares bytes, as sorted sets do. Lua's own "<" depends on the locale of the server.
local function order(a, b)
    if a == b then
        return 0
    end
    for i = 1, math.min(#a, #b) do
        local difference = string.byte(a, i) - string.byte(b, i)
        if difference ~= 0 then
            return difference
        end
    end
    return #a - #b
end

-- 2^18 buckets: with some twenty million reports of a project each is a listpack, without pointers, and still short
-- enough for a fast search. Fewer buckets would take less memory below a million reports, and more time.
local BUCKETS = 262144

local function bucket(kind, text)
    local number = tonumber(string.sub(redis.sha1hex(text), 1, 5), 16) % BUCKETS
    return string.format('%s:%s:%x', PROJECT, kind, number)
end

local function index_key(sign, status)
    return PROJECT .. ':i:' .. sign .. ':' .. status
end

local UNKNOWN_COUNTRY = 0

local function country_of(nation, mobile)
    if nation and mobile and string.find(nation, '^[1-9]%d?%d?$') and string.find(mobile, '^%d+$') then
        return tonumber(nation)
    end
    return UNKNOWN_COUNTRY
end

local function number_prefix(mobile, country, sign, status)
    return struct.pack('>Bc0I2I3B', #mobile, mobile, country, sign, status)
end

local function spelling_prefix(mobile, sign, status)
    return struct.pack('>Bc0I3B', #mobile, mobile, sign, status)
end

local function sortable(time)
    return struct.pack('>I6', time)
end

-- The ids of signatures are long, so records contain a number: 0 is the project's default signature.
-- The hash maps both ways, "s" .. sign_id -> number and "n" .. number -> sign_id. "last" is the number assigned last:
-- the number of a dropped signature (expire.lua) is not reused.
local SIGNS = PROJECT .. ':signs'
-- Each live signature costs three sorted sets, and three look-ups in each scan for old reports.
local MAX_SIGNS = 10000
local MAX_NUMBER = 16777215 -- three bytes in number_prefix

local function sign_number(sign_id)
    local number = redis.call('HGET', SIGNS, 's' .. sign_id)
    return number and tonumber(number) or nil
end

-- Reuses the numbers of dropped signatures only after every number was assigned once.
local function free_number(last)
    repeat
        last = last % MAX_NUMBER + 1
    until redis.call('HEXISTS', SIGNS, 'n' .. last) == 0
    return last
end

-- The number of a signature, or nil when it is new and the project is at the limit.
local function number_of(sign_id)
    local number = sign_number(sign_id)
    if number then
        return number
    end
    local live = math.floor(redis.call('HLEN', SIGNS) / 2)
    if live >= MAX_SIGNS then
        return nil
    end
    number = free_number(tonumber(redis.call('HGET', SIGNS, 'last') or live))
    redis.call('HSET', SIGNS, 's' .. sign_id, number, 'n' .. number, sign_id, 'last', number)
    return number
end

-- The time of a report: that of its status, or of the submission while there is no status.
local function time_of(record)
    return record[STATUS] == 0 and record[SUBMIT] or record[DELIVER]
end

-- Where the number of a record is indexed: the key, and the prefix of the member, to which the id is appended.
local function number_place(record)
    local mobile, sign, status = record[MOBILE], record[SIGN], record[STATUS]
    if record.by_spelling then
        return bucket('m', mobile), spelling_prefix(mobile, sign, status) .. sortable(time_of(record))
    end
    local prefix = number_prefix(mobile, country_of(record[NATION], mobile), sign, status)
    return bucket('n', mobile), prefix .. sortable(time_of(record))
end

-- Where the recipients of a request share its message_id, the id of a report is message_id, RECIPIENT and national
-- number, and the country after another RECIPIENT for the second of two that differ in it alone. No text in UTF-8 has
-- these bytes, and ids that begin alike stay in the order of their message_ids.
local RECIPIENT = '\0\255'
-- There once a report of such a provider has come: until then a project pays nothing for them.
local SHARES_IDS = PROJECT .. ':shared'

local function shares_ids()
    return redis.call('EXISTS', SHARES_IDS) == 1
end

-- The message_id that an id shares with others, else nil.
local function shared_part(id)
    local at = string.find(id, RECIPIENT, 1, true)
    return at and string.sub(id, 1, at - 1)
end

local function request_prefix(message_id)
    return struct.pack('>Hc0', #message_id, message_id)
end

local function request_window(message_id, sign, status)
    return request_prefix(message_id) .. struct.pack('>I3B', sign, status)
end

-- Where a report is indexed among those of its request: as in number_place.
local function request_place(message_id, record)
    local prefix = request_window(message_id, record[SIGN], record[STATUS])
    return bucket('q', message_id), prefix .. sortable(time_of(record))
end

local function remove(id, record)
    redis.call('ZREM', index_key(record[SIGN], record[STATUS]), id)
    if record[MOBILE] then
        local key, member = number_place(record)
        redis.call('ZREM', key, member .. id)
    end
    local message_id = shared_part(id)
    if message_id then
        local key, member = request_place(message_id, record)
        redis.call('ZREM', key, member .. id)
    end
end

local function add(id, record)
    redis.call('ZADD', index_key(record[SIGN], record[STATUS]), time_of(record), id)
    if record[MOBILE] then
        local key, member = number_place(record)
        redis.call('ZADD', key, 0, member .. id)
    end
    local message_id = shared_part(id)
    if message_id then
        local key, member = request_place(message_id, record)
        redis.call('ZADD', key, 0, member .. id)
    end
end

-- A number with a country beats one without. Otherwise the number of a registration (an even rank) beats that of a
-- report. A rank never falls, so the order of arrival does not matter. A number indexed by spelling may not be canonical.
local function number_rank(nation, mobile, registered)
    if not mobile then
        return 0
    end
    return 1 + (country_of(nation, mobile) ~= UNKNOWN_COUNTRY and 2 or 0) + (registered and 1 or 0)
end

local function rank_of(record)
    local registered = bit.band(record[OWNED], NUMBER_OWNED) ~= 0
    return number_rank(not record.by_spelling and record[NATION], record[MOBILE], registered)
end

local function unpacked(stored)
    local record = cmsgpack.unpack(stored)
    record.by_spelling = string.byte(stored) == BY_SPELLING
    return record
end

local function packed(record)
    return ARRAY_OF_TEN .. cmsgpack.pack(unpack(record, 1, MOBILE))
end

-- Loads the record of `id`, applies `change`, stores it, and updates its indexes. Returns whether it changed.
local function alter(id, change)
    local home = bucket('r', id)
    local before = redis.call('HGET', home, id)
    local record = before and unpacked(before) or {0, 0, [SIGN] = 0}
    local was = before and unpacked(before)
    change(record)
    record.by_spelling = false
    local after = packed(record)
    if after == before then
        return false
    end
    if was then
        remove(id, was)
    end
    add(id, record)
    redis.call('HSET', home, id, after)
    return true
end

local function record_of(id)
    local stored = redis.call('HGET', bucket('r', id), id)
    return stored and unpacked(stored)
end

-- Whether anything but registrations is known of a record.
local function has_report(record)
    return record[STATUS] ~= 0 or record[DELIVER] ~= nil
end

local function recipient_id(message_id, nation, mobile)
    local id = message_id .. RECIPIENT .. mobile
    local country, record = country_of(nation, mobile), record_of(id)
    local other = record and country_of(record[NATION], mobile) or UNKNOWN_COUNTRY
    if country ~= UNKNOWN_COUNTRY and other ~= UNKNOWN_COUNTRY and country ~= other then
        return id .. RECIPIENT .. country
    end
    return id
end

local function move(from, record, to)
    remove(from, record)
    redis.call('HDEL', bucket('r', from), from)
    add(to, record)
    redis.call('HSET', bucket('r', to), to, packed(record))
end

-- While no report has told whether a message_id is shared, its registrations are one record, as for most providers,
-- and where they name several numbers, also a hash of one record for each number: a signature in it is text, because
-- its number is kept for what is indexed alone.
local function registrations_key(message_id)
    return PROJECT .. ':p:' .. message_id
end

-- Makes the registrations of a message_id those of its recipients. Returns the record of a report that the id has from
-- a provider that does not share it, else nil.
local function part_recipients(message_id)
    local record = record_of(message_id)
    if not record or record.by_spelling or has_report(record) then
        return record
    end
    local key = registrations_key(message_id)
    local apart = redis.call('HGETALL', key)
    if #apart == 0 then
        move(message_id, record, recipient_id(message_id, record[NATION], record[MOBILE]))
        return nil
    end
    remove(message_id, record)
    redis.call('HDEL', bucket('r', message_id), message_id)
    redis.call('DEL', key)
    for i = 2, #apart, 2 do
        local one = unpacked(apart[i])
        one[SIGN] = one[SIGN] ~= 0 and number_of(one[SIGN]) or 0
        local id = recipient_id(message_id, one[NATION], one[MOBILE])
        add(id, one)
        redis.call('HSET', bucket('r', id), id, packed(one))
    end
    return nil
end

-- The recipients of a message_id by id, as many as are looked at.
local MAX_RECIPIENTS = 1000

local function recipients(message_id)
    local prefix = request_prefix(message_id)
    local members = redis.call('ZRANGEBYLEX', bucket('q', message_id), '[' .. prefix, '(' .. prefix .. string.rep('\255', 4),
        'LIMIT', 0, MAX_RECIPIENTS)
    local ids = {}
    for i, member in ipairs(members) do
        ids[i] = string.sub(member, #prefix + #struct.pack('>I3BI6', 0, 0, 0) + 1)
    end
    return ids
end
