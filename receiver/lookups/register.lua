-- Registers sent messages. ARGV[1]: msgpack array of {id, text, fee, sign_id, extend, submit, nation, mobile, count},
-- times in ms, the number canonical, count the fee by the length of the text. ARGV[2]: the ms for which texts are kept.
-- Returns for each message 1 if it is new, 0 if it was registered before, and -1 if it is refused because the project
-- is at the limit of signatures. A field that a registration omits keeps its value. Without an earlier value the fee is
-- the count, and submit_time is the time of the first registration.

local NOW, KEEP = now(), tonumber(ARGV[2])
local TEXT, SENT = 2, {3, 4, 5, 6}
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

local function write(message)
    local new, submit
    alter(message[1], function(record)
        new = bit.band(record[OWNED], REGISTERED) == 0
        if not message[6] and not owned(record, SUBMIT) then
            message[6] = NOW
        end
        record[OWNED] = bit.bor(record[OWNED], REGISTERED, message[3] and FEE_GIVEN or 0)
        if bit.band(record[OWNED], FEE_GIVEN) == 0 then
            message[3] = message[9]
        end
        for _, index in ipairs(SENT) do
            local value, field = message[index], FIELD[index]
            if value ~= nil then
                record[field] = value
                record[OWNED] = bit.bor(record[OWNED], bit.lshift(1, field))
            end
        end
        take_number(record, message[7], message[8])
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
