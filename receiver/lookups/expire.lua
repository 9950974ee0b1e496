-- Removes reports older than ARGV[1] ms, at most ARGV[2] of them, of some ARGV[4] signatures from the cursor ARGV[3]
-- on, and signatures without reports. Returns the number of removed reports, and the next cursor: "0" after the last
-- signature.

local BEFORE = string.format('(%.0f', now() - tonumber(ARGV[1]))
local MAX, CURSOR = tonumber(ARGV[2]), ARGV[3]
local STATUSES = {0, 1, 2}
local left = MAX

local function remove_report(id)
    local home = bucket('r', id)
    remove(id, unpacked(redis.call('HGET', home, id)))
    redis.call('HDEL', home, id)
end

local function expire_sign(sign)
    for _, status in ipairs(STATUSES) do
        local old = redis.call('ZRANGEBYSCORE', index_key(sign, status), '-inf', BEFORE, 'LIMIT', 0, left)
        for _, id in ipairs(old) do
            remove_report(id)
        end
        left = left - #old
    end
end

-- A signature gets its number in the same script call that writes its first record. So a number without records is
-- unused.
local function drop_if_unused(sign, sign_id)
    if redis.call('EXISTS', index_key(sign, 0), index_key(sign, 1), index_key(sign, 2)) == 0 then
        redis.call('HDEL', SIGNS, 's' .. sign_id, 'n' .. sign)
    end
end

if CURSOR == '0' then
    expire_sign(0)
end
-- Two fields a signature. HSCAN returns every signature that exists throughout the scan, whatever else changes.
local answer = redis.call('HSCAN', SIGNS, CURSOR, 'MATCH', 'n*', 'COUNT', 2 * ARGV[4])
for i = 1, #answer[2], 2 do
    local sign = string.sub(answer[2][i], 2)
    if left == 0 then
        return {MAX, CURSOR}
    end
    expire_sign(sign)
    drop_if_unused(sign, answer[2][i + 1])
end
return {MAX - left, left > 0 and answer[1] or CURSOR}
