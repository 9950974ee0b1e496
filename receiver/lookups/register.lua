-- Registers sent messages. ARGV[1]: msgpack array of {id, text, fee, sign_id, extend, submit, nation, mobile, count},
-- times in ms, the number canonical, count the fee as the text has it; ARGV[2]: how long the text is kept, in ms.
-- Returns for each
-- 1 if it was not known as registered before, 0 if it was, and -1 if it is refused because its signature would be one
-- too many. What a registration leaves out keeps its value; a fee that was never told is counted, and submit_time is
-- then the time of the first registration.
--
-- Where a report of the project has shared its id with other recipients, each number of a message_id is a record of its
-- own, unless the id has a report that does not.

local NOW, KEEP = now(), tonumber(ARGV[2])
local TEXT, FEE_OF_TEXT, SENT = 2, 9, {3, 4, 5, 6}
local FIELD = {[3] = FEE, [4] = SIGN, [5] = EXTEND, [6] = SUBMIT}
-- Bits of OWNED for no field: the message was registered; its fee was given, not counted.
local REGISTERED, FEE_GIVEN = 1, 2
local REFUSED = -1

local function owned(record, field)
    return bit.band(record[OWNED], bit.lshift(1, field)) ~= 0
end

-- A registration without a nation code keeps the country of an earlier one.
local function take_number(record, nation, mobile)
    if not nation and owned(record, MOBILE) and country_of(record[NATION], record[MOBILE]) ~= UNKNOWN_COUNTRY then
        nation = record[NATION]
    end
    if mobile and number_rank(nation, mobile, true) >= rank_of(record) then
        record[NATION], record[MOBILE] = nation, mobile
        record[OWNED] = bit.bor(record[OWNED], NUMBER_OWNED)
    end
end

local function keep_text(message, submit)
    local key, expiry = PROJECT .. ':t:' .. message[1], submit + KEEP
    if expiry > NOW then
        redis.call('SET', key, message[TEXT], 'PXAT', string.format('%.0f', expiry))
    else
        redis.call('DEL', key)
    end
end

local function take(record, message)
    local told = {[3] = message[3], [4] = message[4], [5] = message[5], [6] = message[6]}
    if not told[6] and not owned(record, SUBMIT) then
        told[6] = NOW
    end
    record[OWNED] = bit.bor(record[OWNED], REGISTERED, told[3] and FEE_GIVEN or 0)
    if bit.band(record[OWNED], FEE_GIVEN) == 0 then
        told[3] = message[FEE_OF_TEXT]
    end
    for _, place_in_message in ipairs(SENT) do
        local value, field = told[place_in_message], FIELD[place_in_message]
        if value ~= nil then
            record[field] = value
            record[OWNED] = bit.bor(record[OWNED], bit.lshift(1, field))
        end
    end
    take_number(record, message[7], message[8])
end

-- Until a report tells whether the id is shared. Reports come within days.
local KEEP_APART = 4 * KEEP

local function keep_apart(key, record)
    local sign = record[SIGN]
    record[SIGN] = sign ~= 0 and redis.call('HGET', SIGNS, 'n' .. sign) or 0
    redis.call('HSET', key, record[MOBILE], packed(record))
    record[SIGN] = sign
end

local function take_apart(message, before)
    if not before or has_report(before) or before.by_spelling then
        return
    end
    local key, mobile = registrations_key(message[1]), message[8]
    local new = redis.call('EXISTS', key) == 0
    if new and before[MOBILE] == mobile then
        return
    end
    if new then
        keep_apart(key, before)
    end
    local stored = redis.call('HGET', key, mobile)
    local record = stored and unpacked(stored) or {0, 0, [SIGN] = 0}
    if stored then
        record[SIGN] = record[SIGN] ~= 0 and number_of(record[SIGN]) or 0
    end
    take(record, message)
    keep_apart(key, record)
    redis.call('PEXPIRE', key, string.format('%.0f', KEEP_APART))
end

local shares = shares_ids()

local function id_of(message)
    if not shares then
        take_apart(message, record_of(message[1]))
    elseif not part_recipients(message[1]) then
        return recipient_id(message[1], message[7], message[8])
    end
    return message[1]
end

local function write(message)
    local new, submit
    alter(id_of(message), function(record)
        new = bit.band(record[OWNED], REGISTERED) == 0
        take(record, message)
        submit = record[SUBMIT]
    end)
    keep_text(message, submit)
    return new and 1 or 0
end

local results = {}
for i, message in ipairs(cmsgpack.unpack(ARGV[1])) do
    local sign_id = message[4]
    message[4] = sign_id and number_of(sign_id)
    results[i] = sign_id and not message[4] and REFUSED or write(message)
end
return results
