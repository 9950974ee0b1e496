-- Whether a message_id, ARGV[1], has been registered, for any of its recipients. No-write.

local REGISTERED = 1

local function registered(id)
    local record = record_of(id)
    return record and bit.band(record[OWNED], REGISTERED) ~= 0
end

if registered(ARGV[1]) then
    return 1
end
for _, id in ipairs(recipients(ARGV[1])) do
    if registered(id) then
        return 1
    end
end
return 0
