-- Applies status reports. ARGV[1]: msgpack array of {id, status, deliver, desc, sign_id, fee, extend, submit,
-- nation, mobile, shared}, times in ms, the number canonical, shared: whether other recipients have the same id. Returns
-- how many changed something. Any order of arrival, any repetition, ends in the same state: a final status wins over
-- status 0, then the later deliver_time, and of equal ones the greater of (weight, desc).

-- At the same time "delivered" beats "failed": the handset has confirmed it.
local WEIGHT = {[0] = 0, [1] = 2, [2] = 1}

local function compare(report, record)
    local pending, without = report[STATUS] == 0, record[STATUS] == 0
    if pending ~= without then
        return pending and -1 or 1
    elseif not record[DELIVER] then
        return 1
    elseif report[DELIVER] ~= record[DELIVER] then
        return report[DELIVER] - record[DELIVER]
    elseif report[STATUS] ~= record[STATUS] then
        return WEIGHT[report[STATUS]] - WEIGHT[record[STATUS]]
    end
    return order(report[DESC] or '', record[DESC] or '')
end

local function text_of(field, value)
    if field == SIGN and value ~= 0 then
        return redis.call('HGET', SIGNS, 'n' .. value)
    end
    return value
end

-- Of two reports with the same status, each other field keeps the greater value.
local function exceeds(field, new, old)
    if new == nil or old == nil or type(new) ~= type(old) then
        return new ~= nil and old == nil
    end
    new, old = text_of(field, new), text_of(field, old)
    if type(new) ~= type(old) then
        return type(new) == 'string'
    end
    if type(new) == 'number' then
        return new > old
    end
    return order(new, old) > 0
end

local function number_exceeds(report, record)
    local difference = order(report[MOBILE], record[MOBILE])
    return difference > 0 or difference == 0 and order(report[NATION] or '', record[NATION] or '') > 0
end

-- Of two numbers of the same rank, the greater wins, independent of the times of their reports.
local function take_number(record, report)
    local difference = number_rank(report[NATION], report[MOBILE], false) - rank_of(record)
    if difference > 0 or difference == 0 and report[MOBILE] and number_exceeds(report, record) then
        record[NATION], record[MOBILE] = report[NATION], report[MOBILE]
        record[OWNED] = bit.band(record[OWNED], bit.bnot(NUMBER_OWNED))
    end
end

local function merge(report)
    return function(record)
        take_number(record, report)
        local difference = compare(report, record)
        if difference < 0 then
            return
        end
        record[STATUS], record[DELIVER], record[DESC] = report[STATUS], report[DELIVER], report[DESC]
        for field = SIGN, SUBMIT do
            local free = bit.band(record[OWNED], bit.lshift(1, field)) == 0
            if free and (difference > 0 or exceeds(field, report[field], record[field])) then
                record[field] = report[field]
            end
        end
    end
end

local SHARED = 11
local shares = shares_ids()

-- Registrations are those of recipients once a report of the project has shared its id. One whose provider does not
-- share ids gives up its number for the report: the registration of this number, else any.
local function join_recipient(report)
    local found
    for _, id in ipairs(recipients(report[1])) do
        local record = record_of(id)
        if record and not has_report(record) and (not found or record[MOBILE] == report[MOBILE]) then
            found = id
        end
    end
    if found then
        move(found, record_of(found), report[1])
    end
end

local function id_of(report)
    local message_id = report[1]
    if report[SHARED] and report[MOBILE] then
        if not shares then
            redis.call('SET', SHARES_IDS, 1)
            shares = true
        end
        part_recipients(message_id)
        return recipient_id(message_id, report[NATION], report[MOBILE])
    end
    if shares and not record_of(message_id) then
        join_recipient(report)
    end
    return message_id
end

local changed = 0
for _, report in ipairs(cmsgpack.unpack(ARGV[1])) do
    -- At the limit of signatures, keep the report under the project's default signature.
    report[SIGN] = report[SIGN] and number_of(report[SIGN]) or 0
    if report[STATUS] == 0 then
        report[DESC] = nil
    end
    if alter(id_of(report), merge(report)) then
        changed = changed + 1
    end
end
return changed
