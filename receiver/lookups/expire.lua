-- Forgets reports older than ARGV[1] (ms), at most ARGV[2] of them. Returns how many.

local BEFORE, left = '(' .. ARGV[1], tonumber(ARGV[2])

local function forget(id)
    local home = bucket('r', id)
    remove(id, cmsgpack.unpack(redis.call('HGET', home, id)))
    redis.call('HDEL', home, id)
end

local removed = 0
for sign = 0, sign_count() do
    for status = 0, 2 do
        local old = redis.call('ZRANGEBYSCORE', index_key(sign, status), '-inf', BEFORE, 'LIMIT', 0, left)
        for _, id in ipairs(old) do
            forget(id)
        end
        removed, left = removed + #old, left - #old
        if left == 0 then
            return removed
        end
    end
end
return removed
