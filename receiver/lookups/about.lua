-- Returns the reports of a message_id or a phone number, whatever their signature, newest first. Writes nothing.
-- ARGV: a text that may be a message_id, the msgpack array of the {mobile, country} that it may mean as a phone number
-- (phone_numbers.py; empty if it is none), and the most reports to return.
-- Returns id, record, signature ('' for the project's default), ...

local ID, READINGS, LIMIT = ARGV[1], cmsgpack.unpack(ARGV[2]), tonumber(ARGV[3])
local ANY_COUNTRY = -1
-- Reports of one number that are looked at; they are ordered by signature and status, and then by time.
local MAX_LOOKED_AT = 1000

local found, seen = {}, {}

local function note(id)
    local stored = not seen[id] and redis.call('HGET', bucket('r', id), id)
    if stored then
        seen[id] = true
        local record = unpacked(stored)
        local sign = record[SIGN] ~= 0 and redis.call('HGET', SIGNS, 'n' .. record[SIGN]) or ''
        found[#found + 1] = {time_of(record), id, stored, sign}
    end
end

local function note_number(mobile, country)
    local head = struct.pack('>Bc0', #mobile, mobile)
    if country ~= ANY_COUNTRY then
        head = head .. struct.pack('>I2', country)
    end
    local low, high = '[' .. head, '(' .. head .. string.rep('\255', 3)
    local members = redis.call('ZRANGEBYLEX', bucket('n', mobile), low, high, 'LIMIT', 0, MAX_LOOKED_AT)
    local before_id = #struct.pack('>Bc0I2I3BI6', #mobile, mobile, 0, 0, 0, 0)
    for _, member in ipairs(members) do
        note(string.sub(member, before_id + 1))
    end
end

note(ID)
for _, id in ipairs(recipients(ID)) do
    note(id)
end
for _, reading in ipairs(READINGS) do
    if #reading[1] < 256 then
        note_number(reading[1], reading[2])
    end
end
table.sort(found, function(a, b)
    if a[1] ~= b[1] then
        return a[1] > b[1]
    end
    return order(a[2], b[2]) > 0
end)
local flat = {}
for i = 1, math.min(LIMIT, #found) do
    flat[#flat + 1] = found[i][2]
    flat[#flat + 1] = found[i][3]
    flat[#flat + 1] = found[i][4]
end
return flat
