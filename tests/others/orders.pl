# A filter on Sendmail::PMilter, which speaks the protocol in Perl, not by libmilter: it knows
# version 2. It obeys the orders that orders.c knows, as far as that version has them.
#
#     perl orders.pl ADDRESS
use strict;
use warnings;
use Sendmail::PMilter qw(:all);

my ($address) = @ARGV;
my $orders;

sub carry_out {
    my ($context, $order) = @_;
    my ($what, $rest) = split ' ', $order, 2;
    $rest = '' unless defined $rest;
    if ($what eq 'addheader') {
        $context->addheader(split ' ', $rest, 2);
    } elsif ($what eq 'chgheader') {
        my ($index, $name, $value) = split ' ', $rest, 3;
        $context->chgheader($name, $index, $value);
    } elsif ($what eq 'addrcpt' || $what eq 'delrcpt' || $what eq 'quarantine') {
        $context->$what($rest);
    } elsif ($what eq 'body') {
        $context->replacebody("$rest\r\n");
    } elsif ($what eq 'progress') {
        $context->progress();
    } elsif ($what eq 'macro') {
        my ($name, $symbol) = split ' ', $rest, 2;
        my $value = $context->getsymval($symbol);
        $context->addheader($name, defined $value ? $value : 'none');
    } elsif ($what eq 'reply') {
        $context->setreply(split ' ', $rest, 3);
        return $rest =~ /^4/ ? SMFIS_TEMPFAIL : SMFIS_REJECT;
    } elsif ($what eq 'verdict') {
        my %verdicts = (accept => SMFIS_ACCEPT, reject => SMFIS_REJECT, discard => SMFIS_DISCARD);
        return exists $verdicts{$rest} ? $verdicts{$rest} : SMFIS_TEMPFAIL;
    } else {
        warn "orders.pl: no such order: $order\n";
        return SMFIS_TEMPFAIL;
    }
    return SMFIS_CONTINUE;
}

my %callbacks = (
    envfrom => sub { $orders = []; return SMFIS_CONTINUE; },
    envrcpt => sub {
        my ($context, $path) = @_;
        return SMFIS_TEMPFAIL if $path =~ /\@later\.test/;
        return SMFIS_CONTINUE unless $path =~ /\@nobody\.test/;
        $context->setreply('550', '5.1.1', 'Nobody here');
        return SMFIS_REJECT;
    },
    header => sub {
        my (undef, $name, $value) = @_;
        push @$orders, $value if lc $name eq 'x-do';
        return SMFIS_CONTINUE;
    },
    # Else it would not be shown the body.
    body => sub { return SMFIS_CONTINUE; },
    eom => sub {
        my ($context) = @_;
        for my $order (@$orders) {
            my $verdict = carry_out($context, $order);
            return $verdict if $verdict ne SMFIS_CONTINUE;
        }
        return SMFIS_CONTINUE;
    },
);

my $milter = Sendmail::PMilter->new();
$milter->setconn($address) or die "cannot listen at $address";
$milter->register('orders', \%callbacks, SMFI_CURR_ACTS | SMFIF_QUARANTINE);
$milter->main();
