-- Deletes from group ARGV[1] of stream KEYS[1] the consumers that have been idle for ARGV[3] ms and have no pending
-- entries, except ARGV[2]. It is one script because deleting a consumer that has just read an entry would lose the
-- entry. Returns the number of deleted consumers.

local deleted = 0
for _, pairs_of in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #pairs_of, 2 do
        consumer[pairs_of[i]] = pairs_of[i + 1]
    end
    if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[3]) and consumer.name ~= ARGV[2] then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
        deleted = deleted + 1
    end
end
return deleted
