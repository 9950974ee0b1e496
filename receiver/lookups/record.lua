-- One report as Redis holds it, and where it is indexed. Put before each script of this folder.
--
-- KEYS[1] is the hash tag of the project, "{lookups:<project_id>}": every other key begins with it,
-- so all keys of a project are in one cluster slot.

local PROJECT = KEYS[1]

-- A record is a msgpack array of ten. OWNED has a bit for each field that a registration has set:
-- a report does not touch these any more, so both orders of arrival end in the same record.
local OWNED, STATUS, DELIVER, DESC, SIGN, FEE, EXTEND, SUBMIT, NATION, MOBILE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local ARRAY_OF_TEN = '\154'

-- Redis' clock, in milliseconds: that of the caller may be days off, and those of several callers differ.
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Byte by byte, as sorted sets do it: Lua's own "<" follows the locale of the server.
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

-- 2^18 buckets: with some twenty million reports of a project they are listpacks, without pointers, and
-- still short enough to be searched fast. Fewer would take less memory below a million, and more time.
local BUCKETS = 262144

local function bucket(kind, text)
    local number = tonumber(string.sub(redis.sha1hex(text), 1, 5), 16) % BUCKETS
    return string.format('%s:%s:%x', PROJECT, kind, number)
end

local function index_key(sign, status)
    return PROJECT .. ':i:' .. sign .. ':' .. status
end

local function mobile_prefix(mobile, sign, status)
    return struct.pack('>Bc0I3B', #mobile, mobile, sign, status)
end

local function sortable(time)
    return struct.pack('>I6', time)
end

-- Ids of signatures are long, so records hold a number: 0 is "the project's default".
-- The hash has both directions, "s" .. sign_id -> number and "n" .. number -> sign_id, and the number that was
-- given last under "last": one that was dropped (expire.lua) is not given again.
local SIGNS = PROJECT .. ':signs'
-- Each live signature costs three sorted sets, and three look-ups whenever old reports are sought.
local MOST_SIGNS = 10000
local MOST_NUMBER = 16777215 -- three bytes in mobile_prefix

local function sign_number(sign_id)
    local number = redis.call('HGET', SIGNS, 's' .. sign_id)
    return number and tonumber(number) or nil
end

-- Only after all numbers have been given once does it come to those that were dropped.
local function free_number(last)
    repeat
        last = last % MOST_NUMBER + 1
    until redis.call('HEXISTS', SIGNS, 'n' .. last) == 0
    return last
end

-- The number of a signature, or nil when it is new and the project has as many as it may have.
local function number_of(sign_id)
    local number = sign_number(sign_id)
    if number then
        return number
    end
    local live = math.floor(redis.call('HLEN', SIGNS) / 2)
    if live >= MOST_SIGNS then
        return nil
    end
    number = free_number(tonumber(redis.call('HGET', SIGNS, 'last') or live))
    redis.call('HSET', SIGNS, 's' .. sign_id, number, 'n' .. number, sign_id, 'last', number)
    return number
end

-- The time of a report: when its status came, or when it was sent while there is no status.
local function time_of(record)
    return record[STATUS] == 0 and record[SUBMIT] or record[DELIVER]
end

local function place(id, record)
    local key, time = index_key(record[SIGN], record[STATUS]), time_of(record)
    local mobile = record[MOBILE]
    if not mobile then
        return key, time
    end
    return key, time, mobile, mobile_prefix(mobile, record[SIGN], record[STATUS]) .. sortable(time) .. id
end

local function remove(id, record)
    local key, _, mobile, member = place(id, record)
    redis.call('ZREM', key, id)
    if mobile then
        redis.call('ZREM', bucket('m', mobile), member)
    end
end

local function add(id, record)
    local key, time, mobile, member = place(id, record)
    redis.call('ZADD', key, time, id)
    if mobile then
        redis.call('ZADD', bucket('m', mobile), 0, member)
    end
end

local function packed(record)
    return ARRAY_OF_TEN .. cmsgpack.pack(unpack(record, 1, MOBILE))
end

-- Loads the record of `id`, lets `change` alter it, and moves it in the indexes where it now belongs.
local function alter(id, change)
    local home = bucket('r', id)
    local before = redis.call('HGET', home, id)
    local record = before and cmsgpack.unpack(before) or {0, 0, [SIGN] = 0}
    local was = before and cmsgpack.unpack(before)
    change(record)
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
